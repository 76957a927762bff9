// The Lab's requests: JSON out; one JSON answer, or a stream of messages with typed arrays behind them.
import { url } from "../registry.js";

export class LabError extends Error {}

export async function post(path, value, signal) {
  const raw = value instanceof Blob;
  let answer;
  try {
    answer = await fetch(url(`studio/lab/${path}`), {
      method: "POST", signal,
      headers: { "Content-Type": raw ? "application/octet-stream" : "application/json" },
      body: raw ? value : JSON.stringify(value),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new LabError("The studio does not answer; is it still running?");
  }
  if (answer.ok) return answer;
  const data = await answer.json().catch(() => ({}));
  throw new LabError(data.detail || `The studio answered ${answer.status}.`);
}

// {header fields, body: ArrayBuffer} of each message as it comes; a message of kind "failed" is thrown.
export async function* messages(answer) {
  const reader = answer.body.getReader();
  let rest = new Uint8Array(0);
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const joined = new Uint8Array(rest.length + value.length);
      joined.set(rest);
      joined.set(value, rest.length);
      rest = joined;
      for (;;) {
        if (rest.length < 8) break;
        const view = new DataView(rest.buffer, rest.byteOffset);
        const [head, size] = [view.getUint32(0, true), view.getUint32(4, true)];
        if (rest.length < 8 + head + size) break;
        const header = JSON.parse(new TextDecoder().decode(rest.subarray(8, 8 + head)));
        if (header.kind === "failed") throw new LabError(header.text);
        const start = rest.byteOffset + 8 + head;
        yield { ...header, body: rest.buffer.slice(start, start + size) };
        rest = rest.subarray(8 + head + size);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  if (rest.length) throw new LabError("The answer ended in the middle; is the studio still running?");
}

// Only the newest call of a kind counts: the one before is stopped.
export class Latest {
  start() {
    this.stop();
    this.abort = new AbortController();
    return this.abort.signal;
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
  }
}

// One message of a request: a header, and bytes behind it.
export function packed(header, body) {
  const words = new TextEncoder().encode(JSON.stringify(header));
  const lengths = new DataView(new ArrayBuffer(8));
  lengths.setUint32(0, words.length, true);
  lengths.setUint32(4, body.size ?? body.byteLength, true);
  return new Blob([lengths, words, body]);
}

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
