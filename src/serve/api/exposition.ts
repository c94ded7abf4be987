/**
 * What `/metrics` has, and how it is written: Prometheus' text format 0.0.4. Alert rules and
 * dashboards (`packaging/`) name no others, and these names stay.
 */

export type MetricType = "counter" | "gauge";

const counter = (help: string) => ({ type: "counter", help }) as const;
const gauge = (help: string) => ({ type: "gauge", help }) as const;

export const METRICS = {
  zenith_compute_wakes_total: counter("Computes that clients have woken."),
  zenith_compute_wake_seconds_total: counter("How long that has taken in all."),
  zenith_compute_wake_failures_total: counter("Computes that could not be woken."),
  zenith_compute_sleeps_total: counter("Idle computes that were stopped."),
  zenith_computes_awake: gauge("Computes that run because a client has woken them."),
  zenith_proxy_connections: gauge("Connections to the Postgres port and by WebSocket."),
  zenith_proxy_max_connections: gauge("How many of them there may be."),
  zenith_proxy_sessions: gauge("Those that have a session."),
  zenith_proxy_connections_total: counter("Connections that came."),
  zenith_proxy_refused_total: counter("Connections that got no session."),
  zenith_proxy_bytes_total: counter("Bytes that were relayed."),
  zenith_http_requests_total: counter("Requests that were answered, by the class of the status."),
  zenith_http_request_seconds_total: counter("How long they have taken in all."),
  zenith_server_restarts_total: counter("Processes that were killed and started again."),
  zenith_failing: gauge("Processes that can't be started again: how many attempts have failed."),
  zenith_up: gauge("Whether a server runs."),
  zenith_disk_free_bytes: gauge("What is free on the disk of the environment."),
  zenith_disk_size_bytes: gauge("How large that disk is."),
  zenith_certificate_expiry_timestamp_seconds: gauge("When the servers' certificate expires."),
  zenith_pageserver_resident_bytes: gauge("The page server's memory."),
  zenith_pageserver_page_cache_bytes: gauge("Its cache of pages."),
  zenith_pageserver_memory_layer_bytes: gauge("What is not in layer files yet."),
  zenith_pageserver_tenants: gauge("Its tenants."),
  zenith_pageserver_timelines_open: gauge("Timelines that are open: idle ones are closed."),
  zenith_pageserver_layers: gauge("Layer files of open timelines."),
  zenith_pageserver_wal_bytes: gauge("WAL of open timelines."),
  zenith_pageserver_held_back_seconds_total: counter(
    "How long the WAL of a timeline has waited for flushes since it was opened.",
  ),
  zenith_tenant_physical_bytes: gauge("What a tenant takes on the page server's disk."),
  zenith_upload_pending_bytes: gauge("What is not in the object store yet."),
  zenith_pageserver_scrape_success: gauge("Whether the page server has answered."),
} as const satisfies Readonly<Record<string, { readonly type: MetricType; readonly help: string }>>;

export type MetricName = keyof typeof METRICS;

/** A value, and the labels that it has. */
export type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

/** What is known now, by name. A number has no labels. */
export type Samples = { readonly [name in MetricName]?: number | readonly Sample[] };

export function exposition(samples: Samples): string {
  const names = Object.keys(METRICS) as MetricName[];
  return names.map((name) => written(name, samples[name] ?? [])).join("");
}

function written(name: MetricName, found: number | readonly Sample[]): string {
  const samples: readonly Sample[] = typeof found === "number" ? [[{}, found]] : found;
  if (samples.length === 0) return "";
  const lines = samples.map(([labels, value]) => {
    const words = Object.entries(labels).map(([key, text]) => `${key}="${escape(text)}"`);
    return `${name}${words.length === 0 ? "" : `{${words.join(",")}}`} ${value}\n`;
  });
  const { type, help } = METRICS[name];
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
