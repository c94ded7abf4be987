/** `/metrics`: counters of this process, and the servers' own figures. */
import { withPageServer } from "../work/context.ts";
import { errorMessage } from "../../common/errors.ts";
import type { Guard } from "../../protocol/guard.ts";
import { hasLocalPageServer } from "../../control/environment.ts";
import { isPageServerRunning } from "../../control/page_server_process.ts";
import { listSafekeepers } from "../../control/safekeepers.ts";
import type { FleetFigures } from "../fleet/fleet.ts";
import { callerOf } from "../http/caller.ts";
import { HttpError } from "../http/problem.ts";
import type { HttpRequest, HttpResponse } from "../http/request.ts";
import type { HttpFigures, Site } from "../http/server.ts";
import type { ProxyFigures } from "../proxy/proxy.ts";
import { certificateExpiryMs } from "../../control/survey/certificate.ts";
import { diskOf } from "../../control/survey/disk.ts";
import { exposition, type Sample, type Samples } from "./exposition.ts";
import type { ApiContext } from "./handlers.ts";

export interface Figures {
  readonly fleet: FleetFigures;
  readonly proxy: ProxyFigures;
  readonly http: () => HttpFigures;
  /** How many clients the proxy takes. */
  readonly maxClients: number;
}

const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export class MetricsSite implements Site {
  readonly at = ["metrics"];
  readonly #context: ApiContext;
  readonly #guard: Guard;
  readonly #figures: Figures;

  constructor(context: ApiContext, guard: Guard, figures: Figures) {
    this.#context = context;
    this.#guard = guard;
    this.#figures = figures;
  }

  async handle(request: HttpRequest): Promise<HttpResponse> {
    if (request.method !== "GET") {
      throw new HttpError(405, "method_not_allowed", "GET /metrics", { allow: "GET" });
    }
    this.#guard.check(await callerOf(this.#guard, request), "metrics", "admin", {});
    const samples: Samples = { ...this.#own(), ...this.#host(), ...await this.#pageServer() };
    return { status: 200, body: exposition(samples), headers: { "content-type": CONTENT_TYPE } };
  }

  #own(): Samples {
    const { fleet, proxy, maxClients } = this.#figures;
    const http = this.#figures.http();
    return {
      zenith_compute_wakes_total: fleet.wakes,
      zenith_compute_wake_seconds_total: fleet.wakeMs / 1_000,
      zenith_compute_wake_failures_total: fleet.failedWakes,
      zenith_compute_sleeps_total: fleet.sleeps,
      zenith_computes_awake: this.#context.awake(),
      zenith_proxy_connections: proxy.open,
      zenith_proxy_max_connections: maxClients,
      zenith_proxy_sessions: proxy.sessions,
      zenith_proxy_connections_total: proxy.accepted,
      zenith_proxy_refused_total: proxy.refused,
      zenith_proxy_bytes_total: [[{ to: "server" }, proxy.toServer], [{ to: "client" }, proxy.toClient]],
      zenith_http_requests_total: [...http.answers].map(([status, count]) => [{ status }, count]),
      zenith_http_request_seconds_total: http.seconds,
      zenith_server_restarts_total: this.#context.restarts(),
      zenith_failing: this.#context.problems().map(({ name, attempts }) => [{ process: name }, attempts]),
    };
  }

  /** The environment's servers, and what they need of their machine. */
  #host(): Samples {
    const environment = this.#context.environment();
    const up: Sample[] = listSafekeepers(environment).map(({ id, running }) => [
      { role: "safekeeper", id: String(id) },
      Number(running),
    ]);
    if (hasLocalPageServer(environment)) {
      up.push([{ role: "pageserver", id: "" }, Number(isPageServerRunning(environment))]);
    }
    const { freeBytes, sizeBytes } = diskOf(environment);
    const expiresMs = certificateExpiryMs(environment);
    return {
      zenith_up: up,
      zenith_disk_free_bytes: freeBytes,
      zenith_disk_size_bytes: sizeBytes,
      zenith_certificate_expiry_timestamp_seconds: expiresMs === undefined ? [] : expiresMs / 1_000,
    };
  }

  async #pageServer(): Promise<Samples> {
    try {
      return await withPageServer(this.#context, async (client) => {
        const { timelines, ...status } = await client.status();
        const store = await client.objectStoreStatus();
        const sum = (of: (timeline: (typeof timelines)[number]) => number): number =>
          timelines.reduce((total, timeline) => total + of(timeline), 0);
        return {
          zenith_pageserver_resident_bytes: status.rss_bytes,
          zenith_pageserver_page_cache_bytes: status.page_cache_bytes,
          zenith_pageserver_memory_layer_bytes: status.memory_layer_bytes,
          zenith_pageserver_tenants: status.tenants,
          zenith_pageserver_timelines_open: timelines.length,
          zenith_pageserver_layers: sum(({ layer_count }) => layer_count),
          zenith_pageserver_wal_bytes: sum(({ wal_bytes }) => wal_bytes),
          // A sum over timelines would go down when one is closed, which no counter does.
          zenith_pageserver_held_back_seconds_total: timelines
            .filter(({ held_back_ms }) => held_back_ms > 0)
            .map(({ tenant_id, timeline_id, held_back_ms }) => [
              { tenant: tenant_id, timeline: timeline_id },
              held_back_ms / 1_000,
            ]),
          zenith_tenant_physical_bytes: status.tenant_sizes.map(({ tenant_id, physical_size_bytes }) => [
            { tenant: tenant_id },
            physical_size_bytes,
          ]),
          zenith_upload_pending_bytes: (store?.tenants ?? []).map(({ tenant_id, pending_bytes }) => [
            { tenant: tenant_id },
            pending_bytes,
          ]),
          zenith_pageserver_scrape_success: 1,
        };
      });
    } catch (error) {
      this.#context.log.warn(`the page server gave no figures: ${errorMessage(error)}`, { err: error });
      return { zenith_pageserver_scrape_success: 0 };
    }
  }
}
