// The tab that tells which marks a picture bears.
import { ask } from "./ask.js";
import { layersOf, meaningOf } from "./words.js";

const find = (id) => document.getElementById(id);
let latest = null; // answers about earlier pictures that come late are not shown

/** Whether this tab is open. */
export const isVerifying = () => location.hash === "#verify";

/** Shows which marks the picture bears; the verdict in words, nothing if another picture was chosen since. */
export async function verify(picture) {
  latest = picture;
  find("verified").hidden = true;
  const answer = await ask("verify", {}, picture);
  if (picture !== latest) return null;
  const [verdict, meaning] = meaningOf(answer.verdict);
  if (find("picture-shown").src) URL.revokeObjectURL(find("picture-shown").src);
  find("picture-shown").src = URL.createObjectURL(picture);
  [find("verdict").textContent, find("meaning").textContent] = [verdict, meaning];
  find("layers").replaceChildren(...layersOf(answer).flatMap(([name, told]) => [element("dt", name), element("dd", told)]));
  find("verified").hidden = false;
  return verdict;
}

function element(tag, text) {
  return Object.assign(document.createElement(tag), { textContent: text });
}
