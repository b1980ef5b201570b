// What the server is asked.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(address, options = {}) {
  const answer = await fetch(address, { credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  let message = answer.statusText;
  try {
    const told = await answer.clone().json();
    message = told.error ?? told.detail ?? message;
  } catch {
    message = (await answer.text()).trim() || message;
  }
  throw new ServerError(answer.status, String(message));
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
