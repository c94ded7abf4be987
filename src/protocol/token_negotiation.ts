/** Asks each client of a server for its token, which is the password on the PostgreSQL wire. */
import type { Principal } from "../auth/claims.ts";
import type { Verifier } from "../auth/verifier.ts";
import { ZenithError } from "../common/errors.ts";
import { isLoopback } from "../common/host_port.ts";
import { AUTH_CLEARTEXT } from "../pgwire/message_types.ts";
import type { AuthenticationDialogue, Negotiation } from "../pgwire/negotiation.ts";
import {
  PgError,
  ProtocolError,
  SQLSTATE_INVALID_AUTHORIZATION,
  SQLSTATE_INVALID_PASSWORD,
} from "../pgwire/sqlstate.ts";
import type { ServerTls } from "../pgwire/tls.ts";

const DECODER = new TextDecoder();

/** The host of `address:port`, where an IPv6 address has no brackets. */
function hostOf(remoteAddress: string): string {
  return remoteAddress.slice(0, remoteAddress.lastIndexOf(":"));
}

/** @param tls encrypts connections; clients on other machines must use it */
export function tokenNegotiation(verifier: Verifier, tls: ServerTls | undefined): Negotiation {
  return {
    ...(tls === undefined ? {} : { encrypt: (socket) => tls.encrypt(socket) }),
    async authenticate(dialogue: AuthenticationDialogue): Promise<Principal> {
      if (!dialogue.encrypted && !isLoopback(hostOf(dialogue.remoteAddress))) {
        throw new PgError(
          SQLSTATE_INVALID_AUTHORIZATION,
          "connections from other machines must be encrypted",
          {
            severity: "FATAL",
            hint: "connect with sslmode=verify-full and the authority's certificate as sslrootcert",
          },
        );
      }
      const body = await dialogue.ask(AUTH_CLEARTEXT);
      const end = body.indexOf(0);
      if (end !== body.length - 1) throw new ProtocolError("malformed password message");
      try {
        const principal = await verifier.verify(DECODER.decode(body.subarray(0, end)));
        const needed = principal.cnf?.["x5t#S256"];
        if (needed === undefined || needed === dialogue.certificate) return principal;
        throw new ZenithError(
          "forbidden",
          `token ${principal.jti} needs the certificate that it was made for`,
          {
            hint: "connect with sslmode=verify-full, sslcert and sslkey",
          },
        );
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
