/**
 * A text field for SQL that offers names of tables and columns: a plain `<textarea>`, with a list
 * below the caret.
 */
import type { RefObject } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Catalog, complete, type Completions } from "./complete.ts";

interface Props {
  readonly area: RefObject<HTMLTextAreaElement | null>;
  readonly text: string;
  readonly onInput: (text: string) => void;
  readonly onRun: () => void;
  /** The names that there are; undefined while they are not known. */
  readonly catalog: Catalog | undefined;
  /** Asks for them, by Ctrl+Space. */
  readonly onWanted: () => void;
}

interface Offered extends Completions {
  readonly chosen: number;
}

/** As high as the statement, so that its answer can be seen below. */
const ROWS_MIN = 4;
const ROWS_MAX = 16;

export function SqlEditor({ area, text, onInput, onRun, catalog, onWanted }: Props) {
  const id = useId();
  const [offered, setOffered] = useState<Offered>();
  const list = useRef<HTMLUListElement>(null);
  const [at, setAt] = useState({ left: 0, top: 0 });
  const offer = (value: string) => {
    const { selectionStart, selectionEnd } = area.current!;
    const found = selectionStart === selectionEnd
      ? complete(value, selectionStart, catalog ?? [])
      : undefined;
    setOffered(found === undefined ? undefined : { ...found, chosen: 0 });
    if (found !== undefined) setAt(placeOf(area.current!, found.from));
  };
  /** Whether the last thing that happened in the field was typing. */
  const isTyping = useRef(false);
  // Names that come later than the letters are offered all the same.
  useEffect(() => {
    if (isTyping.current && document.activeElement === area.current) offer(text);
  }, [catalog]);
  const take = ({ from, items, chosen }: Offered, index = chosen) => {
    const element = area.current!;
    element.focus();
    element.setSelectionRange(from, element.selectionStart);
    // As if it were typed: Ctrl+Z takes it back.
    document.execCommand("insertText", false, items[index]!.text);
    setOffered(undefined);
  };
  const hide = () => {
    isTyping.current = false;
    setOffered(undefined);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      setOffered(undefined);
      onRun();
      return;
    }
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      isTyping.current = true;
      onWanted();
      offer(text);
      return;
    }
    if (offered === undefined) return;
    const move = (by: number) => {
      const count = offered.items.length;
      setOffered({ ...offered, chosen: (offered.chosen + by + count) % count });
    };
    const keys: Record<string, () => void> = {
      ArrowDown: () => move(1),
      ArrowUp: () => move(-1),
      Tab: () => take(offered),
      Escape: hide,
      // Only what somebody has chosen: the end of a line is not to become another word.
      ...(offered.chosen > 0 ? { Enter: () => take(offered) } : {}),
    };
    const act = event.shiftKey ? undefined : keys[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  useLayoutEffect(() => {
    list.current?.querySelector('[aria-selected="true"]')?.scrollIntoView({ block: "nearest" });
  }, [offered]);
  return (
    <div class="editor-box">
      <textarea
        ref={area}
        class="editor mono"
        aria-label="Statement"
        aria-autocomplete="list"
        aria-haspopup="listbox"
        aria-controls={`${id}-names`}
        aria-activedescendant={offered === undefined ? undefined : `${id}-${offered.chosen}`}
        spellcheck={false}
        autocapitalize="off"
        value={text}
        rows={Math.min(Math.max(text.split("\n").length + 1, ROWS_MIN), ROWS_MAX)}
        onInput={(event) => {
          isTyping.current = true;
          onInput(event.currentTarget.value);
          offer(event.currentTarget.value);
        }}
        onKeyDown={onKeyDown}
        onClick={hide}
        onScroll={() => setOffered(undefined)}
        onBlur={hide}
      />
      <p class="visually-hidden" aria-live="polite">
        {offered !== undefined &&
          `${offered.items.length} names; Tab takes ${offered.items[offered.chosen]!.text}`}
      </p>
      <ul
        ref={list}
        id={`${id}-names`}
        class="names"
        role="listbox"
        aria-label="Names"
        hidden={offered === undefined}
        style={{ left: `${at.left}px`, top: `${at.top}px` }}
      >
        {offered?.items.map(({ text, about, kind }, i) => (
          <li
            key={text}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === offered.chosen}
            // Before the field loses the focus.
            onPointerDown={(event) => {
              event.preventDefault();
              take(offered, i);
            }}
          >
            <span class={`mono is-${kind}`}>{text}</span>
            <span class="hint">{about}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** Properties that say where the letters of a field are. */
const COPIED = [
  "boxSizing",
  "width",
  "paddingTop",
  "paddingRight",
  "paddingBottom",
  "paddingLeft",
  "borderTopWidth",
  "borderLeftWidth",
  "borderStyle",
  "fontFamily",
  "fontSize",
  "fontWeight",
  "letterSpacing",
  "lineHeight",
  "tabSize",
] as const;

const LIST_WIDTH = 300;

/** Below a letter of the field, in its box: a browser tells where a letter is only of an element's text. */
function placeOf(area: HTMLTextAreaElement, index: number): { left: number; top: number } {
  const copy = document.createElement("div");
  const style = getComputedStyle(area);
  for (const name of COPIED) copy.style[name] = style[name];
  Object.assign(copy.style, {
    position: "absolute",
    visibility: "hidden",
    whiteSpace: "pre-wrap",
    overflowWrap: "break-word",
  });
  copy.textContent = area.value.slice(0, index);
  const mark = document.createElement("span");
  mark.textContent = "|";
  copy.append(mark);
  area.parentElement!.append(copy);
  const left = Math.max(0, Math.min(mark.offsetLeft, area.clientWidth - LIST_WIDTH));
  const top = mark.offsetTop + mark.offsetHeight - area.scrollTop + 4;
  copy.remove();
  return { left, top };
}
