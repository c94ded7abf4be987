/**
 * `/metrics`: what Prometheus scrapes (text format 0.0.4). Counters of this process, and the
 * servers' own figures.
 */
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
import type { ApiContext } from "./handlers.ts";

export interface Figures {
  readonly fleet: FleetFigures;
  readonly proxy: ProxyFigures;
  readonly http: () => HttpFigures;
}

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number];

interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly samples: readonly Sample[];
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
    const metrics = [...this.#own(), ...this.#servers(), ...await this.#pageServer()];
    return { status: 200, body: metrics.map(format).join(""), headers: { "content-type": CONTENT_TYPE } };
  }

  #own(): Metric[] {
    const { fleet, proxy } = this.#figures;
    const http = this.#figures.http();
    return [
      counter("zenith_compute_wakes_total", "Computes that clients have woken.", fleet.wakes),
      counter("zenith_compute_wake_seconds_total", "How long that has taken in all.", fleet.wakeMs / 1_000),
      counter("zenith_compute_wake_failures_total", "Computes that could not be woken.", fleet.failedWakes),
      counter("zenith_compute_sleeps_total", "Idle computes that were stopped.", fleet.sleeps),
      gauge(
        "zenith_computes_awake",
        "Computes that run because a client has woken them.",
        this.#context.awake(),
      ),
      gauge("zenith_proxy_connections", "Connections to the Postgres port and by WebSocket.", proxy.open),
      gauge("zenith_proxy_sessions", "Those that have a session.", proxy.sessions),
      counter("zenith_proxy_connections_total", "Connections that came.", proxy.accepted),
      counter("zenith_proxy_refused_total", "Connections that got no session.", proxy.refused),
      {
        name: "zenith_proxy_bytes_total",
        type: "counter",
        help: "Bytes that were relayed.",
        samples: [[{ to: "server" }, proxy.toServer], [{ to: "client" }, proxy.toClient]],
      },
      {
        name: "zenith_http_requests_total",
        type: "counter",
        help: "Requests that were answered, by the class of the status.",
        samples: [...http.answers].map(([status, count]) => [{ status }, count]),
      },
      counter("zenith_http_request_seconds_total", "How long they have taken in all.", http.seconds),
      counter(
        "zenith_server_restarts_total",
        "Processes that were killed and started again.",
        this.#context.restarts(),
      ),
      {
        name: "zenith_failing",
        type: "gauge",
        help: "Processes that can't be started again: how many attempts have failed.",
        samples: this.#context.problems().map(({ name, attempts }) => [{ process: name }, attempts]),
      },
    ];
  }

  #servers(): Metric[] {
    const environment = this.#context.environment();
    const up: Sample[] = listSafekeepers(environment).map(({ id, running }) => [
      { role: "safekeeper", id: String(id) },
      Number(running),
    ]);
    if (hasLocalPageServer(environment)) {
      up.push([{ role: "pageserver", id: "" }, Number(isPageServerRunning(environment))]);
    }
    return [{ name: "zenith_up", type: "gauge", help: "Whether a server runs.", samples: up }];
  }

  async #pageServer(): Promise<Metric[]> {
    try {
      return await withPageServer(this.#context, async (client) => {
        const status = await client.status();
        const store = await client.objectStoreStatus();
        const timelines = status.timelines;
        const sum = (of: (timeline: (typeof timelines)[number]) => number): number =>
          timelines.reduce((total, timeline) => total + of(timeline), 0);
        return [
          gauge("zenith_pageserver_resident_bytes", "The page server's memory.", status.rss_bytes),
          gauge("zenith_pageserver_page_cache_bytes", "Its cache of pages.", status.page_cache_bytes),
          gauge(
            "zenith_pageserver_memory_layer_bytes",
            "What is not in layer files yet.",
            status.memory_layer_bytes,
          ),
          gauge("zenith_pageserver_tenants", "Its tenants.", status.tenants),
          gauge(
            "zenith_pageserver_timelines_open",
            "Timelines that are open: idle ones are closed.",
            timelines.length,
          ),
          gauge(
            "zenith_pageserver_layers",
            "Layer files of open timelines.",
            sum(({ layer_count }) => layer_count),
          ),
          gauge("zenith_pageserver_wal_bytes", "WAL of open timelines.", sum(({ wal_bytes }) => wal_bytes)),
          counter(
            "zenith_pageserver_held_back_seconds_total",
            "How long WAL of open timelines has waited for flushes.",
            sum(({ held_back_ms }) => held_back_ms) / 1_000,
          ),
          {
            name: "zenith_tenant_physical_bytes",
            type: "gauge",
            help: "What a tenant takes on the page server's disk.",
            samples: status.tenant_sizes.map(({ tenant_id, physical_size_bytes }) => [
              { tenant: tenant_id },
              physical_size_bytes,
            ]),
          },
          {
            name: "zenith_upload_pending_bytes",
            type: "gauge",
            help: "What is not in the object store yet.",
            samples: (store?.tenants ?? []).map((
              { tenant_id, pending_bytes },
            ) => [{ tenant: tenant_id }, pending_bytes]),
          },
          gauge("zenith_pageserver_scrape_success", "Whether the page server has answered.", 1),
        ];
      });
    } catch (error) {
      this.#context.log.warn(`the page server gave no figures: ${errorMessage(error)}`, { err: error });
      return [gauge("zenith_pageserver_scrape_success", "Whether the page server has answered.", 0)];
    }
  }
}

function counter(name: string, help: string, value: number): Metric {
  return { name, type: "counter", help, samples: [[{}, value]] };
}

function gauge(name: string, help: string, value: number): Metric {
  return { name, type: "gauge", help, samples: [[{}, value]] };
}

function format({ name, type, help, samples }: Metric): string {
  if (samples.length === 0) return "";
  const lines = samples.map(([labels, value]) => {
    const words = Object.entries(labels).map(([key, text]) => `${key}="${escape(text)}"`);
    return `${name}${words.length === 0 ? "" : `{${words.join(",")}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
