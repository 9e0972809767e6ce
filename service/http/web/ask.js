// What the page asks the service, and what it was told of it when it was loaded.

const KEY = "eye2face-key";

/** Facts of the service: whether it needs a key, and what it asks of an eye. */
export const service = JSON.parse(document.body.dataset.service);

/** The API key of this tab. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  keep: (key) => sessionStorage.setItem(KEY, key),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Why there is no answer: the service's problem+json, or a code of the page's own. */
export class Problem extends Error {
  constructor({ code = "", detail = "", status = 0, request_id = "" }) {
    super(code);
    Object.assign(this, { code, detail, status, request_id });
  }

  /** Whether the same question may be answered a moment later. */
  get mayPass() {
    return this.code === "unreachable" || this.status === 429 || this.status >= 500;
  }

  /** Whether eyes were found, and all are seen too badly. */
  get isOfAnEye() {
    return this.code.startsWith("eye_");
  }
}

/** The answer of a route as JSON. */
export async function ask(path, query, photo) {
  const body = new FormData();
  body.append("image", photo);
  const headers = { Accept: "application/json" };
  if (apiKey.get()) headers["X-API-Key"] = apiKey.get();
  let response, answer;
  try {
    response = await fetch(`${path}?${new URLSearchParams(query)}`, { method: "POST", body, headers });
    answer = await response.json();
  } catch {
    throw new Problem({ code: "unreachable" });
  }
  if (!response.ok) throw new Problem({ ...answer, status: response.status });
  return answer;
}
