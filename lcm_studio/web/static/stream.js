// Gradio's server ends the page's event stream when no event is pending, and the page opens another for the next one.
// An event sent while that word is still on its way is answered on a stream that nobody reads: the click does nothing.
// So the word is passed on only where nothing is pending here either; else the stream goes on with the server's next one.
import { page } from "./again.js";

const pending = new Set(); // events sent, whose end has not come
const early = new Set(); // events whose end came before their number
let sending = 0;

async function send(fetched) {
  sending += 1;
  try {
    const response = await fetched();
    const { event_id: id } = response.ok ? await response.clone().json() : {};
    if (id && !early.delete(id)) pending.add(id);
    return response;
  } finally {
    sending -= 1;
  }
}

// True where the message is the word that must not be passed on.
function heard(message) {
  if (message.includes("process_completed")) {
    const { msg, event_id: id } = JSON.parse(message.slice(message.indexOf("{")));
    if (msg === "process_completed" && !pending.delete(id)) early.add(id);
  }
  return message.length < 200 && message.includes('"close_stream"') && (sending > 0 || pending.size > 0);
}

async function listen(fetched) {
  const first = await fetched();
  if (!first.ok || !first.body) return first;
  let reader = first.body.getReader();
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    async start(controller) {
      try {
        for (let rest = "", decoder = new TextDecoder(); ; ) {
          const { value, done } = await reader.read();
          if (done) break;
          const messages = (rest + decoder.decode(value, { stream: true })).split("\n\n");
          rest = messages.pop();
          for (const message of messages) {
            if (!heard(message)) {
              controller.enqueue(encoder.encode(`${message}\n\n`));
              continue;
            }
            const next = await fetched();
            if (!next.ok || !next.body) throw new Error(`the event stream ended with ${next.status}`);
            [reader, rest, decoder] = [next.body.getReader(), "", new TextDecoder()];
            break;
          }
        }
        controller.close();
      } catch (error) {
        pending.clear();
        controller.error(error);
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: first.status, headers: first.headers });
}

const plain = window.fetch;
window.fetch = (input, init) => {
  const { pathname } = new URL(input.url || input, document.baseURI);
  const fetched = () => plain.call(window, input, init);
  if (pathname.endsWith("/queue/join")) {
    return send(async () => {
      const headers = new Headers(init?.headers || input.headers);
      headers.set("X-LCM-Page", await page()); // so that the same browser tab can take its request up again
      return plain.call(window, input, { ...init, headers });
    });
  }
  if (pathname.endsWith("/queue/data")) return listen(fetched);
  return fetched();
};
