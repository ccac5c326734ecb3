// The status page in Debian's Chromium, on a real cluster that somebody else drives.
//
//   node status_page.mjs URL [SHOTS]
//
// Writes one JSON object a line: {"figure": TEXT} for the report, {"ask": WHAT} for something to be done to the cluster,
// and reads one line of JSON for each that was asked. SHOTS is the folder of the screenshots. Exit status 0: all is as it
// should be.

import assert from "node:assert/strict";
import {createInterface} from "node:readline";
import {chromium} from "playwright-core";

const [url, shots] = process.argv.slice(2);
const seconds = 1000;
const answers = createInterface({input: process.stdin})[Symbol.asyncIterator]();

const say = message => process.stdout.write(JSON.stringify(message) + "\n");
const figure = text => say({figure: text});
async function ask(what) {
  say({ask: what});
  return JSON.parse((await answers.next()).value);
}

const wrong = []; // what no page may do, whatever happens
let daemonIsAway = false;

async function open(browser, width, height, colorScheme, scale) {
  const context = await browser.newContext({viewport: {width, height}, colorScheme, deviceScaleFactor: scale});
  const page = await context.newPage();
  await page.addInitScript(`window.rowsOf = ${rowsOf}; sessionStorage.loads = Number(sessionStorage.loads ?? 0) + 1;`);
  page.on("console", message => {
    if (message.type() === "error" && !(daemonIsAway && message.text().includes("net::ERR_")))
      wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", error => wrong.push(`error: ${error.stack}`));
  page.on("request", request => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) wrong.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return page;
}

// Waits for a condition in the page, by name in what is thrown when it is late.
async function until(page, what, condition, argument, limit = 30) {
  try {
    return await (await page.waitForFunction(condition, argument, {timeout: limit * seconds, polling: 100})).jsonValue();
  } catch (error) {
    const text = await page.evaluate(() => document.body.innerText.slice(0, 3000));
    throw new Error(`${what}: not within ${limit} s: ${error.message}\n${text}`);
  }
}
const word = (page, wanted, limit) =>
  until(page, `the head line says ${wanted}`, w => document.getElementById("word").textContent === w, wanted, limit);

// The rows of one pool: member -> what its row shows.
const rowsOf = backend => Object.fromEntries([...document.querySelectorAll("table")]
  .filter(table => table.querySelector("h3").textContent === backend)
  .flatMap(table => [...table.querySelectorAll("tbody tr")])
  .map(row => [row.querySelector(".name").textContent,
               {state: row.querySelector(".state .word").textContent, leads: row.querySelector(".leads").checkVisibility(),
                haproxy: row.querySelector(".haproxy").textContent, sessions: Number(row.querySelector(".sessions").textContent),
                why: row.querySelector(".why summary").textContent}]));

async function shot(page, name) {
  if (shots) await page.screenshot({path: `${shots}/${name}.png`, animations: "disabled"});
}

async function showsLeaderAndSlots(page, leader, members) {
  await word(page, "All well");
  const pools = await page.evaluate(() => [rowsOf("primary"), rowsOf("replicas")]);
  for (const pool of pools) assert.deepEqual(Object.keys(pool).sort(), members);
  const [primary, replicas] = pools;
  for (const name of members) {
    assert.equal(primary[name].leads, name === leader);
    assert.equal(primary[name].state, name === leader ? "ready" : "maint");
    assert.equal(replicas[name].state, name === leader ? "maint" : "ready");
  }
  assert.equal(primary[leader].haproxy, "UP");
  assert.match(primary[leader].why, /^R2 leader, and its node says/);
  assert.equal(await page.locator(".leader").innerText().then(text => text.split(" ")[0]), leader);
  assert.match(await page.locator(".etcd").innerText(), /^etcd read \d/);
  assert.match(await page.locator(".free").first().innerText(), /^\d free slots$/);
  assert.match(await page.title(), /^All well/);
}

// What somebody is reading must survive every update: returns whether it has.
async function reads(reader, member) {
  await reader.evaluate(name => {
    const row = [...document.querySelectorAll("tbody tr")].find(each => each.querySelector(".name").textContent === name);
    const more = row.querySelector("details");
    more.open = true;
    more.querySelector("summary").focus();
    getSelection().selectAllChildren(row.querySelector(".name"));
    window.before = {more, focused: document.activeElement, selected: getSelection().toString()};
  }, member);
  await until(reader, "the row's inputs", () => /until/.test(window.before.more.innerText) && /master: no/.test(window.before.more.innerText));
  return () => reader.evaluate(() => ({
    there: window.before.more.isConnected, open: window.before.more.open,
    focus: document.activeElement === window.before.focused, selection: getSelection().toString() === window.before.selected}));
}

async function switchover(page, phone, reader, leader) {
  await until(page, "sessions of the leader", name => rowsOf("primary")[name].sessions >= 2, leader);
  const other = (await page.evaluate(() => Object.keys(rowsOf("primary")))).find(name => name !== leader);
  const survived = await reads(reader, other);
  await shot(page, "before");

  const nobody = until(page, "no slot of the primary pool is in service",
                       () => Object.values(rowsOf("primary")).every(row => row.state !== "ready"), undefined, 90);
  const asked = ask("switchover");
  await nobody;
  const head = await page.locator("#word").innerText() + " " + await page.locator("#said").innerText();
  await Promise.all([shot(page, "during"), shot(phone, "phone-dark")]);
  const {to} = await asked;
  await until(page, `${to} leads and is in service`, name => {
    const row = rowsOf("primary")[name];
    return row.leads && row.state === "ready" && row.haproxy === "UP";
  }, to);
  figure(`during the switchover the page said: ${head}`);
  assert.match(head, /^(Changing|Trouble) .*pool primary: no slot is in service/);
  await until(page, "the old leader reads", name => rowsOf("replicas")[name].state === "ready", leader, 90);
  await word(page, "All well", 60);
  await until(page, "the new leader's sessions", name => rowsOf("primary")[name].sessions >= 2, to);
  await shot(page, "after");
  assert.deepEqual(await survived(), {there: true, open: true, focus: true, selection: true});

  const given = page.locator("#happened li").filter({hasText: `${to} maint -> ready`}).filter({hasText: "primary/"});
  await given.locator("summary").click();
  await until(page, "the cause and the command of the new slot", () => [...document.querySelectorAll("#happened .what")].some(
    what => what.checkVisibility() && /R2 leader, and its node says/.test(what.innerText) &&
            /set server primary\/pg\d+ state ready {3}ok, [\d.]+ ms/.test(what.innerText)));
  await given.locator("summary").click();
  figure(`a switchover from ${leader} to ${to}, seen live`);
  return to;
}

async function fitsOnAPhone(phone) {
  await word(phone, "All well");
  const widths = async () => phone.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  const [closed, room] = await widths();
  await phone.evaluate(() => { for (const more of document.querySelectorAll("details")) more.open = true; });
  const [opened] = await widths();
  figure(`at 360x740: ${closed} pixels wide, ${opened} with everything open, room for ${room}`);
  assert.ok(closed <= room && opened <= room);
  await phone.evaluate(() => { for (const more of document.querySelectorAll("details.more")) more.open = false; });
}

async function darkAndLight(page) {
  const seen = {};
  for (const colorScheme of ["dark", "light"]) {
    await page.emulateMedia({colorScheme});
    seen[colorScheme] = await page.evaluate(() => [getComputedStyle(document.documentElement).backgroundColor,
                                                  getComputedStyle(document.querySelector(".cluster")).backgroundColor,
                                                  getComputedStyle(document.body).color]);
  }
  figure(`background, card and ink: dark ${seen.dark.join(" ")}, light ${seen.light.join(" ")}`);
  const brightness = colour => colour.match(/\d+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0) / 3;
  assert.deepEqual(seen.dark.map(colour => brightness(colour) > 128), [false, false, true]);
  assert.deepEqual(seen.light.map(colour => brightness(colour) > 128), [true, true, false]);
}

async function paused(page) {
  await ask("pause");
  await word(page, "PAUSED", 10);
  assert.match(await page.locator("#said").innerText(), /^until \d.*nothing is sent to HAProxy/);
  assert.match(await page.title(), /^PAUSED/);
  await shot(page, "paused");
  await ask("resume");
  await word(page, "All well", 10);
}

async function daemonDies(page) {
  daemonIsAway = true;
  await ask("kill");
  await word(page, "No news", 10);
  await until(page, "how long it lasts", () => /^for [4-9] s\. /.test(document.getElementById("said").textContent), undefined, 10);
  assert.ok(await page.evaluate(() => Number(getComputedStyle(document.getElementById("clusters")).opacity) < 0.5));
  assert.match(await page.title(), /^No news/);
  await shot(page, "no-news");
  await ask("start");
  await word(page, "All well", 60);
  daemonIsAway = false;
  assert.ok(await page.evaluate(() => getComputedStyle(document.getElementById("clusters")).opacity === "1"));
}

async function namesAreText(page) {
  const {name} = await ask("hostile");
  await until(page, "the member's name as text", wanted => wanted in rowsOf("primary") && wanted in rowsOf("replicas"), name);
  assert.equal(await page.locator("main img, main b img, main script").count(), 0);
  assert.equal(await page.evaluate(() => window.injected), undefined);
  figure(`a member called ${name} is shown as that`);
}

const root = process.getuid() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({executablePath: "/usr/bin/chromium",
                                       args: [...root, "--disable-gpu", "--disable-dev-shm-usage"]});
try {
  const page = await open(browser, 1180, 900, "light", 1.5);
  const reader = await open(browser, 1180, 900, "light", 1);
  const phone = await open(browser, 360, 740, "dark", 2);
  const {leader, members} = await ask("begin");
  await showsLeaderAndSlots(page, leader, members);
  await fitsOnAPhone(phone);
  const next = await switchover(page, phone, reader, leader);
  await showsLeaderAndSlots(page, next, members);
  await fitsOnAPhone(phone);
  await darkAndLight(page);
  await paused(page);
  await daemonDies(page);
  await namesAreText(page);
  assert.equal(await page.evaluate(() => sessionStorage.loads), "1", "the page was never loaded again");
  assert.deepEqual(wrong, []);
  figure("no error in the console, and no request to anybody but the daemon");
} finally {
  await browser.close();
}
process.exit(0);
