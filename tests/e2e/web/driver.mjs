// Chromium with pages that each hold a phone. Commands come as JSON lines on standard input,
// {"id", "page", "call", "args"}; answers go out as lines "@" + JSON, {"id", "value" | "error"}.
// Usage: node driver.mjs FOLDER (with node_modules and bundle.js) CHROMIUM
import {createRequire} from 'node:module';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import readline from 'node:readline';
import {fileURLToPath} from 'node:url';

const [folder, executablePath] = process.argv.slice(2);
const here = path.dirname(fileURLToPath(import.meta.url));
const {chromium} = createRequire(path.join(path.resolve(folder), 'x.js'))('playwright-core');

const script = (file) => `<script>${fs.readFileSync(file, 'utf8').replaceAll('</script', '<\\/script')}</script>`;
const html = '<!doctype html><meta charset=utf-8><title>phone</title>' +
  script(path.join(folder, 'bundle.js')) + script(path.join(here, 'phone.js'));

// A page from a server on loopback may reach an edge on loopback, one that is made up may not; and
// localhost is a secure context, so the page may use the microphone.
const server = http.createServer((request, response) => {
  response.writeHead(200, {'content-type': 'text/html'});
  response.end(html);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const browser = await chromium.launch({
  executablePath,
  headless: true,
  chromiumSandbox: false, // needs user namespaces, or not to be root
  args: [
    '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
    '--autoplay-policy=no-user-gesture-required',
    '--allow-loopback-in-peer-connection', // else: no candidate where lo is all there is
  ],
});
const say = (answer) => console.log('@' + JSON.stringify(answer));
const pages = new Map();

async function open(name) {
  const page = await (await browser.newContext()).newPage();
  page.on('console', (message) => console.log(`${name}: ${message.text()}`));
  page.on('pageerror', (error) => console.log(`${name}: PAGE ERROR ${error.stack}`));
  await page.goto(`http://localhost:${server.address().port}/`);
  await page.evaluate(() => JsSIP.debug.enable('JsSIP:Transport JsSIP:RTCSession'));
  pages.set(name, page);
}

async function close(name) {
  await pages.get(name).context().close();
  pages.delete(name);
}

async function run({page, call, args}) {
  if (call === 'open') return open(page);
  if (call === 'close') return close(page);
  return pages.get(page).evaluate(([name, values]) => window.phone[name] instanceof Function
    ? window.phone[name](...values) : window.phone[name], [call, args || []]);
}

say({id: 0, value: browser.version()});
for await (const line of readline.createInterface({input: process.stdin})) {
  const command = JSON.parse(line);
  run(command).then(
    (value) => say({id: command.id, value: value === undefined ? null : value}),
    (error) => say({id: command.id, error: String(error.message)}),
  );
}
await browser.close();
server.close();
