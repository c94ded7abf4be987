/** Light, dark, or as the system has it. */
import { createStore, useStore } from "./store.ts";

export const THEMES = ["auto", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

const KEY = "zenith.theme";

function isTheme(text: string | null): text is Theme {
  return THEMES.some((theme) => theme === text);
}

const stored = localStorage.getItem(KEY);
const theme = createStore<Theme>(isTheme(stored) ? stored : "auto");

function apply(chosen: Theme): void {
  if (chosen === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = chosen;
}
apply(theme.get());

export function chooseTheme(chosen: Theme): void {
  localStorage.setItem(KEY, chosen);
  apply(chosen);
  theme.set(chosen);
}

export function useTheme(): Theme {
  return useStore(theme);
}
