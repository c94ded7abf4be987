/** Prometheus' text format, as far as Zenith writes it. */

export interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly { readonly labels: string; readonly value: number }[];
}

export function readMetrics(text: string): Metric[] {
  const found = new Map<
    string,
    { name: string; type: string; help: string; samples: Metric["samples"][number][] }
  >();
  const of = (name: string) => {
    const known = found.get(name) ?? { name, type: "", help: "", samples: [] };
    found.set(name, known);
    return known;
  };
  for (const line of text.split("\n")) {
    const about = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (about !== null) of(about[2]!)[about[1] === "HELP" ? "help" : "type"] = about[3]!;
    else if (sample !== null) {
      of(sample[1]!).samples.push({ labels: sample[2] ?? "", value: Number(sample[3]) });
    }
  }
  return [...found.values()];
}
