// One question to the service: its answer as JSON, or a Problem that can be shown.

/** Why there is no answer, in words for the person at the page. */
export class Problem extends Error {
  constructor({ title, detail, code = "", status = 0, request_id = "" }) {
    super(title);
    Object.assign(this, { title, detail, code, status });
    this.reference = code && `${code}, request ${request_id}`;
  }

  /** Whether the same question may be answered a moment later. */
  get mayPass() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** Whether eyes were found, and the photo shows the chosen one too badly or not at all. */
  get isOfAnEye() {
    return this.code.startsWith("eye_") || this.code === "no_such_eye";
  }
}

export async function ask(path, query, photo, key) {
  const body = new FormData();
  body.append("image", photo);
  const headers = { Accept: "application/json" };
  if (key) headers["X-API-Key"] = key;
  let response, answer;
  try {
    response = await fetch(`${path}?${new URLSearchParams(query)}`, { method: "POST", body, headers });
    answer = await response.json();
  } catch {
    const detail = "The service cannot be reached, or it stopped answering. Is it running?";
    throw new Problem({ title: "No answer", detail });
  }
  if (!response.ok) throw new Problem({ ...answer, status: response.status });
  return answer;
}
