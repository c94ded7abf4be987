/** For worker_thread.test.ts: answers with what it is told, or fails in the way it is told. */
import { ZenithError } from "../../../../src/common/errors.ts";
import { askParent, serveRequests } from "../../../../src/process/worker_thread.ts";

export interface EchoRequest {
  readonly do: "echo" | "ask" | "add" | "fail" | "break" | "exit";
  readonly value?: unknown;
}

serveRequests<EchoRequest, unknown>((request) => {
  switch (request.do) {
    case "echo":
      return request.value;
    case "ask":
      return [...askParent(request.value)];
    case "add":
      (request.value as Uint8Array)[0]++;
      return null;
    case "fail":
      throw new ZenithError("disk_full", "no space", { hint: "make some" });
    case "break":
      return (request.value as { nothing: () => void }).nothing();
    case "exit":
      return process.exit(3);
  }
});
