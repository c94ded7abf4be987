/** What is wrong and what to do about it: the words of `zenith status`. */
import { call } from "../api.ts";
import { formatBytes } from "../format.ts";
import { usePoll } from "../poll.ts";
import { Card, Fact, Facts, Header, Loading, Problem } from "../ui/parts.tsx";

const POLL_MS = 5_000;

export function HealthPage() {
  const polled = usePoll(
    async () => {
      const [health, status] = await Promise.all([call("health"), call("status")]);
      return { health, status };
    },
    POLL_MS,
    "",
  );
  const { health, status } = polled.data ?? {};
  if (health === undefined || status === undefined) {
    return (
      <>
        <Header title="Health" />
        {polled.error === undefined ? <Loading what="health" /> : <Problem error={polled.error} />}
      </>
    );
  }
  const failing = status.problems.map(({ name, attempts, error }) => ({
    what: `${name} does not stay up: ${error}`,
    hint: `started ${attempts} times; zenith serve goes on trying`,
    down: true,
  }));
  const problems = [...failing, ...health.problems];
  const used = 1 - health.disk_free_bytes / Math.max(health.disk_total_bytes, 1);
  return (
    <>
      <Header title="Health" about={`Zenith ${status.version}`} />
      <Problem error={polled.error} />
      {problems.length === 0
        ? (
          <div class="notice is-good" role="status">
            <p>
              <strong>All is well.</strong> Everything that should run does.
            </p>
          </div>
        )
        : (
          <ul class="problems">
            {problems.map(({ what, hint, down }) => (
              <li key={what} class={`notice ${down ? "is-danger" : "is-warning"}`}>
                <p>
                  <strong>{what}</strong>
                </p>
                <p class="hint">{hint}</p>
              </li>
            ))}
          </ul>
        )}
      <div class="grid">
        <Card title="Servers">
          <ul class="servers">
            {status.servers.map(({ name, running, address }) => (
              <li key={name}>
                <span
                  class={`dot is-${running ? "awake" : "crashed"}`}
                  role="img"
                  aria-label={running ? "runs" : "down"}
                />
                <span>{name}</span>
                <span class="mono hint">{address}</span>
              </li>
            ))}
          </ul>
        </Card>
        <Card title="Figures">
          <Facts>
            <Fact name="Postgres awake">{status.computes_awake}</Fact>
            <Fact name="Sessions">{status.sessions}</Fact>
            <Fact name="Started again after a kill">{status.restarts}</Fact>
            <Fact name="Disk">
              {formatBytes(health.disk_free_bytes)} free of {formatBytes(health.disk_total_bytes)}
              <meter min={0} max={1} high={0.9} value={used} aria-label="Disk used" />
            </Fact>
          </Facts>
        </Card>
      </div>
    </>
  );
}
