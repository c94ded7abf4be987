/** Serves a proposer's connection at the safekeeper. */
import { ZenithError } from "../common/errors.ts";
import type { TenantId } from "../common/id.ts";
import { noteShortLived } from "../common/garbage.ts";
import { decodeProposerMessage, encodeMessage } from "../consensus/message_codec.ts";
import type { Session } from "../pgwire/session.ts";
import type { Named } from "../protocol/operation.ts";
import type { SafekeeperTimeline } from "./timeline.ts";
import type { Timelines } from "./timelines.ts";

/**
 * Serves START_WAL_PUSH for one proposer. Its first message, ServerInfo, names the timeline that it
 * writes.
 *
 * @param check throws when the proposer may not write what it names
 * @param paceMs told of the WAL that has come in, in bytes, it says for how long to take no more
 * @throws the error with which the proposer is refused, or that broke the connection
 */
export async function serveWalPush(
  session: Session,
  timelines: Timelines,
  check: (named: Named) => void,
  paceMs: (tenant: TenantId, bytes: number) => number,
): Promise<void> {
  const copy = session.copyBoth();
  let timeline: SafekeeperTimeline | undefined;
  let link = 0;
  let reject!: (error: unknown) => void;
  const refused = new Promise<never>((_resolve, onReject) => reject = onReject);
  refused.catch(() => {});

  const running = copy.run({
    onData(bytes, off, len) {
      // Bytes read from the socket lie in buffers of their own.
      noteShortLived(len);
      const message = decodeProposerMessage(bytes, off, len);
      if (timeline !== undefined) {
        const bytes = message.type === "AppendRequest" ? message.bytes.length : 0;
        timeline.receive(link, message);
        const pauseMs = bytes === 0 ? 0 : paceMs(timeline.identity.tenantId, bytes);
        if (pauseMs > 0) {
          copy.pause();
          setTimeout(() => copy.resume(), pauseMs);
        }
        return;
      }
      if (message.type !== "ServerInfo") {
        throw new ZenithError("protocol", `the first message is ${message.type}, expected ServerInfo`);
      }
      check({ tenant: message.tenantId, timelines: [message.timelineId] });
      // Read nothing more from the socket until the timeline is open.
      copy.pause();
      timelines.getOrCreate(message).then((opened) => {
        if (copy.closed) return;
        timeline = opened;
        link = opened.attach({ send: (answer) => void copy.send(encodeMessage(answer)), refuse: reject });
        opened.receive(link, message);
        copy.resume();
      }).catch(reject);
    },
  });
  try {
    await Promise.race([running, refused]);
  } finally {
    timeline?.detach(link);
  }
}
