// An MCP server for the trials: it reads letters of strangers, sends answers, waits, pays, and does what works only at the
// second try. `node letters.mjs FOLDER`: in the folder it writes down what it has sent, and looks whether there is a file
// `mended`, or `NAME.open` for whoever waits, or pays, for that.

import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const folder = process.argv[2];
const text = (text, isError = false) => ({ content: [{ type: "text", text }], isError });

const tools = {
  read: { readOnly: true, call: () => text("a letter from a stranger") },
  send: {
    readOnly: false,
    call: ({ text: said }) => {
      appendFileSync(join(folder, "sent"), `${said}\n`);
      return text("sent");
    },
  },
  wait: {
    readOnly: true,
    call: async ({ gate }) => {
      while (!existsSync(join(folder, `${gate}.open`))) await new Promise((done) => setTimeout(done, 20));
      return text("open");
    },
  },
  pay: {
    readOnly: false,
    call: async ({ gate }) => {
      appendFileSync(join(folder, "paid"), `${gate}\n`);
      return tools.wait.call({ gate });
    },
  },
  mended: { readOnly: true, call: () => (existsSync(join(folder, "mended")) ? text("it works") : text("it is broken", true)) },
};

const answers = {
  initialize: () => ({ protocolVersion: "2025-06-18", capabilities: { tools: {} }, serverInfo: { name: "post", version: "1" } }),
  "tools/list": () => ({
    tools: Object.entries(tools).map(([name, { readOnly }]) => ({
      name, inputSchema: { type: "object" }, annotations: { readOnlyHint: readOnly },
    })),
  }),
  "tools/call": ({ name, arguments: given }) => tools[name].call(given ?? {}),
};

const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined || !answers[method]) return;
  const result = await answers[method](params);
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", id, result })}\n`);
});
// Nobody is left to wait for anything.
input.on("close", () => process.exit());
