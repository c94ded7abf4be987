/** Asks for a token: at first, and again when the one before is not good any more. */
import { useState } from "preact/hooks";
import { logIn } from "../api.ts";
import { useAction } from "../poll.ts";
import { Button, Field, Problem } from "../ui/parts.tsx";

/** @param why why the session has ended; undefined at first */
export function LoginForm({ why }: { readonly why?: string }) {
  const [token, setToken] = useState("");
  const doing = useAction();
  return (
    <form
      class="login"
      onSubmit={(event) => {
        event.preventDefault();
        void doing.run(() => logIn(token));
      }}
    >
      {why !== undefined && (
        <div class="notice is-warning" role="alert">
          <p>{why}</p>
          <p class="hint">What you were doing is still there. Go on with another token.</p>
        </div>
      )}
      <Field
        label="Token"
        type="password"
        value={token}
        onInput={setToken}
        isMono
        autoFocus
        isRequired
        hint={
          <>
            <code>zenith token create me --scope admin</code> makes one. This tab keeps it until it is closed.
          </>
        }
      />
      <Problem error={doing.error} />
      <Button kind="primary" type="submit" isBusy={doing.isBusy}>Log in</Button>
    </form>
  );
}

export function LoginPage() {
  return (
    <main class="login-page" tabIndex={-1}>
      <div class="card">
        <Logo />
        <h1>Log in</h1>
        <LoginForm />
      </div>
    </main>
  );
}

export function Logo() {
  return (
    <span class="logo">
      <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
        <rect class="logo-ground" width="32" height="32" rx="8" />
        <path class="logo-lines" d="M7 22h18M7 22h5c5 0 4-12 9-12h4" />
        <circle class="logo-end" cx="25" cy="10" r="2.6" />
      </svg>
      Zenith
    </span>
  );
}
