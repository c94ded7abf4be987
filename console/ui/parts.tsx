/** Small parts that every page is made of. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError } from "../api.ts";
import type { Polled } from "../poll.ts";

interface ButtonProps {
  readonly children: ComponentChildren;
  readonly kind?: "primary" | "plain" | "danger" | "quiet";
  readonly isBusy?: boolean;
  readonly isDisabled?: boolean;
  readonly type?: "button" | "submit";
  readonly label?: string;
  readonly onClick?: () => void;
}

export function Button(
  { children, kind = "plain", isBusy = false, isDisabled = false, type = "button", label, onClick }:
    ButtonProps,
) {
  return (
    <button
      type={type}
      class={`button is-${kind}`}
      disabled={isDisabled || isBusy}
      aria-busy={isBusy}
      aria-label={label}
      onClick={onClick}
    >
      {isBusy && <span class="spinner" aria-hidden="true" />}
      {children}
    </button>
  );
}

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
  readonly hint?: ComponentChildren;
  readonly type?: "text" | "password" | "datetime-local";
  readonly step?: string;
  readonly placeholder?: string;
  readonly isMono?: boolean;
  readonly autoFocus?: boolean;
  readonly isRequired?: boolean;
}

export function Field(
  { label, value, onInput, hint, type = "text", step, placeholder, isMono, autoFocus, isRequired }:
    FieldProps,
) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (autoFocus) input.current?.focus();
  }, []);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        ref={input}
        id={id}
        // One type for each kind of input is what Preact has; these three take the same attributes.
        type={type as "text"}
        step={step}
        value={value}
        class={isMono ? "mono" : ""}
        placeholder={placeholder}
        required={isRequired}
        autocomplete="off"
        spellcheck={false}
        aria-describedby={hint === undefined ? undefined : `${id}-hint`}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {hint !== undefined && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}

interface SelectProps {
  readonly label: string;
  readonly value: string;
  readonly options: readonly (readonly [value: string, text: string])[];
  readonly onChange: (value: string) => void;
  readonly isLabelHidden?: boolean;
}

export function Select({ label, value, options, onChange, isLabelHidden }: SelectProps) {
  const id = useId();
  return (
    <div class="field">
      <label for={id} class={isLabelHidden ? "visually-hidden" : ""}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
    </div>
  );
}

/** A field that narrows down what a page shows. It says in itself what it finds. */
export function Search({ label, placeholder = label, value, onInput }: {
  readonly label: string;
  readonly placeholder?: string;
  readonly value: string;
  readonly onInput: (value: string) => void;
}) {
  return (
    <input
      class="search"
      type="search"
      placeholder={placeholder}
      aria-label={label}
      value={value}
      onInput={(event) => onInput(event.currentTarget.value)}
    />
  );
}

/** One of a few, of which all are to be seen. */
export function Choice<T extends string>({ label, value, options, onChange, isInline = false }: {
  readonly label: string;
  readonly value: T;
  readonly options: readonly (readonly [value: T, text: string])[];
  readonly onChange: (value: T) => void;
  readonly isInline?: boolean;
}) {
  return (
    <div class={isInline ? "tabs is-inline" : "tabs"} role="group" aria-label={label}>
      {options.map(([name, text]) => (
        <button
          key={name}
          type="button"
          class="chip"
          aria-pressed={name === value}
          onClick={() => onChange(name)}
        >
          {text}
        </button>
      ))}
    </div>
  );
}

/** What went wrong, in the server's words, with what to do. */
export function Problem({ error }: { readonly error: Error | undefined }) {
  if (error === undefined) return null;
  const hint = error instanceof ApiError ? error.hint : null;
  return (
    <div class="notice is-danger" role="alert">
      <p>{error.message}</p>
      {hint !== null && <p class="hint">{hint}</p>}
    </div>
  );
}

export function Copy({ text, label = "Copy" }: { readonly text: string; readonly label?: string }) {
  const [isCopied, setCopied] = useState(false);
  const copy = async () => {
    await writeClipboard(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1_500);
  };
  return (
    <button type="button" class="button is-plain is-small" onClick={() => void copy()}>
      <span aria-live="polite">{isCopied ? "Copied" : label}</span>
    </button>
  );
}

/** Without TLS, a browser gives the clipboard to loopback addresses only. */
async function writeClipboard(text: string): Promise<void> {
  if (navigator.clipboard !== undefined) return await navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

interface DialogProps {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly onClose: () => void;
}

/** The browser's own dialog: it keeps the focus inside, and Escape closes it. */
export function Dialog({ title, children, onClose }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current!.showModal();
    return () => before instanceof HTMLElement && before.focus();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={onClose}>
      <div class="dialog-body">
        <h2 id={id}>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

export function Card(
  { title, aside, children, kind }: {
    readonly title: string;
    readonly aside?: ComponentChildren;
    readonly children: ComponentChildren;
    readonly kind?: "danger";
  },
) {
  const id = useId();
  return (
    <section class={`card ${kind === undefined ? "" : `is-${kind}`}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** Names and values: of {@link Fact}s. */
export function Facts({ children }: { readonly children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact(
  { name, children }: { readonly name: ComponentChildren; readonly children: ComponentChildren },
) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function Loading({ what }: { readonly what: string }) {
  return <p class="empty" role="status">Loading {what} …</p>;
}

/** What was asked for, once it is there, and what was wrong with the last request. */
export function Loaded<T>(
  { polled: { data, error }, what, children }: {
    readonly polled: Pick<Polled<T>, "data" | "error">;
    readonly what: string;
    readonly children: (data: T) => ComponentChildren;
  },
) {
  return (
    <>
      <Problem error={error} />
      {data === undefined ? error === undefined && <Loading what={what} /> : children(data)}
    </>
  );
}

interface TableProps {
  readonly label: string;
  /** Its `th`s. */
  readonly head: ComponentChildren;
  readonly children: ComponentChildren;
  /** Whether a card has it, which is its frame. On its own it has one itself. */
  readonly isInCard?: boolean;
}

/** A table that a narrow window scrolls sideways, by the keyboard too. */
export function Table({ label, head, children, isInCard = false }: TableProps) {
  return (
    <div
      class={isInCard ? "table-scroll" : "table-scroll card"}
      tabIndex={0}
      role="region"
      aria-label={label}
    >
      <table>
        <thead>
          <tr>{head}</tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

export function Header(
  { title, about, children }: {
    readonly title: ComponentChildren;
    readonly about?: ComponentChildren;
    readonly children?: ComponentChildren;
  },
) {
  return (
    <header class="page-header">
      <div>
        <h1>{title}</h1>
        {about !== undefined && <p class="about">{about}</p>}
      </div>
      {children !== undefined && <div class="actions">{children}</div>}
    </header>
  );
}
