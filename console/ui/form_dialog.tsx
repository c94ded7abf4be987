/** Dialogs that ask for something, and then do it. */
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useAction } from "../poll.ts";
import { Button, Dialog, Field, Problem } from "./parts.tsx";

interface FormDialogProps {
  readonly title: string;
  /** What the button says that does it. */
  readonly verb: string;
  readonly kind?: "primary" | "danger";
  readonly isDisabled?: boolean;
  readonly children: ComponentChildren;
  readonly onClose: () => void;
  /** What throws is shown, and the dialog stays. */
  readonly act: () => Promise<void>;
}

export function FormDialog(
  { title, verb, kind = "primary", isDisabled = false, children, onClose, act }: FormDialogProps,
) {
  const doing = useAction();
  return (
    <Dialog title={title} onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!isDisabled) void doing.run(act);
        }}
      >
        {children}
        <Problem error={doing.error} />
        <div class="dialog-actions">
          <Button onClick={onClose}>Cancel</Button>
          <Button kind={kind} type="submit" isBusy={doing.isBusy} isDisabled={isDisabled}>{verb}</Button>
        </div>
      </form>
    </Dialog>
  );
}

interface ConfirmProps extends Omit<FormDialogProps, "kind" | "isDisabled"> {
  /** What has to be typed. */
  readonly word: string;
}

/** Asks for the name, so that nobody does it by a slip of the hand. */
export function Confirm({ word, children, ...dialog }: ConfirmProps) {
  const [typed, setTyped] = useState("");
  return (
    <FormDialog {...dialog} kind="danger" isDisabled={typed !== word}>
      {children}
      <Field label={`Type ${word} to go on`} value={typed} onInput={setTyped} autoFocus />
    </FormDialog>
  );
}
