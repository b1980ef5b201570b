// What the server is asked.

/** What the server refused: its English sentence, and the same as a code with values or null. */
export class ServerError extends Error {
  constructor(status, message, code = null) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

async function ask(address, options = {}) {
  const answer = await reach(address, options);
  if (answer.ok) return answer;
  let message = answer.statusText;
  let code = null;
  try {
    const told = await answer.clone().json();
    message = told.error ?? told.detail ?? message;
    code = told.code ?? null;
  } catch {
    message = (await answer.text()).trim() || message;
  }
  throw new ServerError(answer.status, String(message), code);
}

async function reach(address, options) {
  try {
    return await fetch(address, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, error.message, { code: "ended", values: {} });
  }
}

const get = async (address) => (await ask(address)).json();

export const scanAddress = (id, rest) => `/api/scans/${encodeURIComponent(id)}/${rest}`;
export const session = () => get("/api/session");
export const scans = () => get("/api/scans");
export const scan = (id) => get(`/api/scans/${encodeURIComponent(id)}`);
export const places = (id, kind) => get(scanAddress(id, `places/${kind}`));

export async function voxels(address, signal) {
  return (await ask(address, { signal })).arrayBuffer();
}

export async function decide(id, decision) {
  const options = {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(decision),
  };
  return (await ask(scanAddress(id, "decision"), options)).json();
}

/** Send a corrected mask, a NIfTI file as bytes; gzipped on the way. */
export async function correct(id, bytes, seen) {
  const zipped = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  const options = {
    method: "POST",
    headers: { "content-type": "application/octet-stream" },
    body: await new Response(zipped).arrayBuffer(),
  };
  return (await ask(scanAddress(id, `correction?seen=${seen}`), options)).json();
}
