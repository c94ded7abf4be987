/** Asks each client of a server for its token, which is the password on the PostgreSQL wire. */
import type { Principal } from "../auth/claims.ts";
import type { Verifier } from "../auth/verifier.ts";
import { ZenithError } from "../common/errors.ts";
import { AUTH_CLEARTEXT } from "../pgwire/message_types.ts";
import type { AuthenticationDialogue, Negotiation } from "../pgwire/negotiation.ts";
import { PgError, ProtocolError, SQLSTATE_INVALID_PASSWORD } from "../pgwire/sqlstate.ts";

const DECODER = new TextDecoder();

export function tokenNegotiation(verifier: Verifier): Negotiation {
  return {
    async authenticate(dialogue: AuthenticationDialogue): Promise<Principal> {
      const body = await dialogue.ask(AUTH_CLEARTEXT);
      const end = body.indexOf(0);
      if (end !== body.length - 1) throw new ProtocolError("malformed password message");
      try {
        return await verifier.verify(DECODER.decode(body.subarray(0, end)));
      } catch (error) {
        if (!(error instanceof ZenithError)) throw error;
        throw new PgError(SQLSTATE_INVALID_PASSWORD, error.message, {
          severity: "FATAL",
          ...(error.hint === undefined ? {} : { hint: error.hint }),
        });
      }
    },
  };
}
