// The page /pad: keys, fingers, tilt, gamepad and headset as wishes for the arm; views and pictures come back.
import * as headset from "/pad/headset.js";
import { bitmaps, showCameras, showPicture } from "/pad/pictures.js";
import * as tilt from "/pad/tilt.js";

const SETTINGS = JSON.parse(document.getElementById("settings").textContent);
const PERIOD = 50, SOON = 15, IDLE = 500, ALONE = 1000;  // [ms]
const $ = (id) => document.getElementById(id);
const held = new Set();          // letters, "space", "shift"
const fingers = new Map();       // pointer -> {area, x, y}
const sent = new Map();          // number of a message -> when it was sent [ms]
const teleop = window.teleop = { view: null, delays: [] };
let socket = null, number = 0, pad = null, homeHeld = false, grips = false;
let joints = [], joint = 0;      // of an arm that moves joint by joint; else empty
let heardAt = 0, saidAt = 0, sentAt = 0, wasPressed = false, changedAt = 0;

const keyOf = (event) => {
  if (event.code.startsWith("Key")) return event.code.slice(3).toLowerCase();
  return event.code.replace(/^Arrow/, "").replace(/^(Shift|Numpad)(Left|Right|Enter)$/, (all, a, b) => a === "Shift" ? a : b).toLowerCase();
};
const isText = (element) => element instanceof Element && element.closest("input, select, textarea, [contenteditable]") !== null;

function wish() {
  const carried = headset.wish();
  if (carried) return { pressed: true, ...carried };
  const linear = [0, 0, 0], angular = [0, 0, 0];
  let pressed = false, home = false, grip = 0;
  if (held.has("space")) {
    pressed = true;
    const [moves, into] = held.has("shift") ? [SETTINGS.turns, angular] : [SETTINGS.moves, linear];
    for (const key of held) (moves[key] || []).forEach((value, i) => { into[i] += value; });
    home = held.has(SETTINGS.home);
  }
  for (const { area, x, y } of fingers.values()) {
    pressed = true;
    if (area === "stick") { linear[0] += x; linear[1] -= y; }
    if (area === "lift") linear[2] -= y;
    if (area === "turn") angular[2] -= y;
  }
  const [right, away, left] = tilt.shares();
  linear[0] += right; linear[1] += away; angular[2] += left;
  if (homeHeld) { pressed = home = true; }
  if (grips) pressed = true;
  if (pad && pad.pressed) {
    pressed = true;
    pad.linear.forEach((value, i) => { linear[i] += value; });
    angular[2] += pad.turn;
    grip = pad.grip;
  }
  const clip = (value) => Math.max(-1, Math.min(1, value));
  if (joints.length) return { pressed, joint, share: clip(linear[1] + linear[2]), grip, home };
  return { pressed, linear: linear.map(clip), angular: angular.map(clip), grip, home };
}

function say(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}
function drive() {
  if (headset.isSilent()) return;
  const wanted = wish();
  wasPressed = wanted.pressed;
  number += 1;
  sentAt = performance.now();
  sent.set(number, sentAt);
  if (sent.size > 200) sent.delete(sent.keys().next().value);
  say({ drive: wanted, n: number });
}
function order(kind, text) { say({ order: kind, text: text || "" }); }
function letGo() { held.clear(); fingers.clear(); tilt.release(); homeHeld = grips = false; showFingers(); if (wasPressed) drive(); }

function textFor(kind) {
  if (kind === "failure") return $("cause").value;
  if (kind === "next" || kind === "flag") { const words = $("words").value.trim(); $("words").value = ""; return words; }
  return "";
}

addEventListener("keydown", (event) => {
  const key = keyOf(event);
  if (key === "escape") { letGo(); order("stop"); if (isText(document.activeElement)) document.activeElement.blur(); return; }
  if (isText(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(digit|numpad)[1-9]$/.test(key)) { choose(Number(key.slice(-1)) - 1); return; }
  const drives = key === "space" || key === "shift" || key in SETTINGS.moves || key === SETTINGS.home;
  if (!drives && !(key in SETTINGS.orders)) return;
  event.preventDefault();
  if (event.repeat) return;
  if (drives) { held.add(key); drive(); } else order(SETTINGS.orders[key], textFor(SETTINGS.orders[key]));
});
addEventListener("keyup", (event) => {
  if (held.delete(keyOf(event))) { event.preventDefault(); drive(); }
});
addEventListener("focusin", (event) => { if (isText(event.target)) letGo(); });
addEventListener("blur", letGo);
addEventListener("pagehide", letGo);
document.addEventListener("visibilitychange", () => { if (document.hidden) letGo(); });
addEventListener("contextmenu", (event) => { if (fingers.size) event.preventDefault(); });

for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => { button.blur(); order(button.dataset.order, textFor(button.dataset.order)); });
}
$("retask").addEventListener("click", () => { order("task", $("task").value); $("task").blur(); $("retask").blur(); });
$("task").addEventListener("keydown", (event) => { if (event.key === "Enter") $("retask").click(); });
$("words").addEventListener("keydown", (event) => { if (event.key === "Enter") { order("next", textFor("next")); $("words").blur(); } });
function coach(words) { order("subtask", words); $("coach").value = ""; $("coach").blur(); $("say").blur(); $("unsay").blur(); }
$("say").addEventListener("click", () => coach($("coach").value));
$("unsay").addEventListener("click", () => coach(""));
$("coach").addEventListener("keydown", (event) => { if (event.key === "Enter") coach($("coach").value); });
$("cause").addEventListener("change", () => $("cause").blur());
function holdButton(id, begin, end) {
  const button = $(id);
  button.addEventListener("pointerdown", (event) => { button.setPointerCapture(event.pointerId); begin(); drive(); });
  for (const name of ["pointerup", "pointercancel"]) button.addEventListener(name, () => { button.blur(); end(); drive(); });
}
holdButton("home", () => { homeHeld = true; }, () => { homeHeld = false; });
// The gripper moves only while the deadman is held: the button holds it until the gripper had time to move.
$("gripper").addEventListener("click", () => {
  $("gripper").blur();
  grips = true; drive(); order("gripper");
  setTimeout(() => { grips = false; drive(); }, 700);
});

function choose(index) {
  if (index >= joints.length) return;
  joint = index;
  [...$("joints").children].forEach((button, i) => button.classList.toggle("main", i === joint));
  if (wasPressed) drive();
}
function showJoints(names) {
  joints = names;
  $("joints").replaceChildren(...names.map((name, i) => {
    const button = document.createElement("button");
    button.textContent = `${i + 1} ${name.replace(/\.pos$/, "")}`;
    button.addEventListener("click", () => { button.blur(); choose(i); });
    return button;
  }));
  choose(0);
}

const isOn = (id) => [...fingers.values()].some((one) => one.area === id);
function showFingers() {
  const [right, away] = tilt.shares();
  for (const area of document.querySelectorAll(".area")) {
    const finger = [...fingers.values()].find((one) => one.area === area.id);
    area.classList.toggle("held", finger !== undefined);
    const [x, y] = area.id === "stick" && tilt.isOn() ? [right, -away] : [finger?.x, finger?.y];
    if (finger) area.querySelector(".knob").style.transform = `translate(${x * 40}px, ${y * 80}px)`;
  }
}
for (const area of document.querySelectorAll(".area")) {
  const tilts = () => area.id === "stick" && tilt.isOn();  // there the phone is tilted, and the finger only held
  const place = (event) => {
    const box = area.getBoundingClientRect(), radius = Math.min(box.height, 220) / 2.4;
    const clip = (value) => Math.max(-1, Math.min(1, value));
    const one = fingers.get(event.pointerId) || { area: area.id, startX: event.clientX, startY: event.clientY };
    one.x = area.id === "stick" && !tilts() ? clip((event.clientX - one.startX) / radius) : 0;
    one.y = tilts() ? 0 : clip((event.clientY - one.startY) / radius);
    fingers.set(event.pointerId, one);
    showFingers();
    drive();
  };
  area.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    area.setPointerCapture(event.pointerId);
    if (tilts() && !isOn(area.id)) tilt.hold();
    place(event);
  });
  area.addEventListener("pointermove", (event) => { if (fingers.has(event.pointerId)) place(event); });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    area.addEventListener(name, (event) => {
      if (!fingers.delete(event.pointerId)) return;
      if (area.id === "stick" && !isOn(area.id)) tilt.release();
      showFingers();
      drive();
    });
  }
}

$("tilt").addEventListener("click", async () => {
  $("tilt").blur();
  letGo();
  const turnsOn = !tilt.isOn();
  if (!turnsOn) tilt.stop();
  $("sensors").textContent = turnsOn ? await tilt.start(followTilt) : "";
  $("tilt").classList.toggle("main", tilt.isOn());
  $("tilt").ariaPressed = tilt.isOn();
  $("slide-words").hidden = tilt.isOn();
  $("tilt-words").hidden = !tilt.isOn();
});
function followTilt() {
  if (!isOn("stick")) return;
  showFingers();
  driveSoon();
}
function driveSoon() { if (performance.now() - sentAt >= SOON) drive(); }
screen.orientation?.addEventListener("change", () => { if (tilt.isOn()) letGo(); });  // the axes of the screen are others now

$("headset").addEventListener("click", async () => {
  $("headset").blur();
  letGo();
  const showsOn = () => { $("headset").classList.toggle("main", headset.isOn()); $("headset").ariaPressed = headset.isOn(); };
  if (headset.isOn()) { await headset.stop(); return; }
  $("sensors").textContent = await headset.start({
    onChange: driveSoon,
    onRelease: (why) => { $("sensors").textContent = why; drive(); },
    onButton: (i) => { const runs = teleop.view?.phase !== "idle"; if (i === 0) order(runs ? "success" : "start"); else if (runs) order("discard"); },
    onEnd: showsOn,
    images: bitmaps,
    words: () => ({ ...colours($("state")), text: [$("state"), $("clock"), $("sensors"), $("said")].map((one) => one.textContent).filter(Boolean).join("  ·  ") }),
  });
  showsOn();
});

function colours(element) { const { color, backgroundColor } = getComputedStyle(element); return { color, ground: backgroundColor }; }

function readPad() {
  const found = [...navigator.getGamepads()].find((one) => one && one.connected);
  if (!found) { if (pad && pad.pressed) { pad = null; drive(); } pad = null; return; }
  const axis = (i) => { const value = found.axes[i] || 0; return Math.abs(value) < 0.1 ? 0 : value; };
  const down = (i) => Boolean(found.buttons[i] && found.buttons[i].pressed);
  const before = JSON.stringify(pad);
  pad = { pressed: down(5), linear: [axis(0), -axis(1), -axis(3)], turn: -axis(2), grip: Number(down(3)) - Number(down(0)) };
  if (JSON.stringify(pad) !== before && (pad.pressed || wasPressed)) drive();
}

setInterval(() => {
  readPad();
  const now = performance.now();
  if (now - sentAt >= (wish().pressed ? PERIOD : IDLE) - 1) drive();
  if (now - heardAt > ALONE) { $("state").className = "bad"; $("state").textContent = "no connection to the arm; it holds"; }
}, 16);

function show(view) {
  teleop.view = view;
  heardAt = performance.now();
  for (const [n, at] of sent) {
    if (n > view.n) break;
    if (n === view.n) { teleop.delays.push(heardAt - at); if (teleop.delays.length > 300) teleop.delays.shift(); }
    sent.delete(n);
  }
  const stopped = view.gate === "fault" || view.gate === "estop", state = $("state");
  state.className = stopped ? "bad" : view.driven ? "driven" : "";
  const who = view.operator && !view.mine ? `; ${view.operator} has the arm` : "";
  const how = headset.isOn() ? "squeeze the controller's grip button to drive" : "hold Space, or touch the fields, to drive";
  const why = view.reason === "not pressed" ? how : view.reason;
  const moving = view.policy === "autonomous" ? "the policy drives" : "driving";
  state.textContent = (stopped ? `stopped: ${why}` : view.driven ? moving : `holding: ${why}`) + who;
  for (const element of [$("policy"), $("autonomy"), document.querySelector("tr.policy")]) element.hidden = !view.policy;
  if (view.policy) {
    $("policy").textContent = $("policy").className = view.policy;
    $("wanted").textContent = view.coached ? `${view.coached} (as you said)` : view.subtasks[view.step] || "nothing planned yet";
  }
  if (view.joints.join() !== joints.join()) showJoints(view.joints);
  const clock = $("clock");
  clock.className = view.phase;
  clock.textContent = view.phase === "countdown" ? `in ${view.begins_in.toFixed(0)} s` : `${view.seconds.toFixed(1)} s`;
  const room = view.minutes_left === null ? "" : `, room for ${view.minutes_left} min`;
  $("counts").textContent = `${view.phase}; ${view.committed} kept${view.pending ? `, ${view.pending} being written` : ""}${room}`;
  if (document.activeElement !== $("task")) $("task").value = view.task;
  const list = JSON.stringify([view.subtasks, view.step]);
  if ($("subtasks").dataset.shown !== list) {
    $("subtasks").dataset.shown = list;
    $("subtasks").replaceChildren(...view.subtasks.map((words, i) => {
      const item = document.createElement("li");
      item.textContent = words;
      item.className = i === view.step ? "now" : "";
      return item;
    }));
  }
  if (performance.now() - saidAt > 4000) $("said").textContent = view.said + (view.succeeds ? " (the scene says: done)" : "");
  const delays = [...teleop.delays].sort((a, b) => a - b);
  const delay = delays.length ? `; input to command and back ${delays[delays.length >> 1].toFixed(0)} ms` : "";
  const where = view.tool ? `tool at ${view.tool.map((value) => value.toFixed(3)).join(", ")} m` : `joints at ${view.position.map((value) => value.toFixed(2)).join(", ")}`;
  $("numbers").textContent = where + delay;
}
function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") { showPicture(data, headset.isOn()); return; }
    const message = JSON.parse(data);
    if (message.view) show(message.view);
    if (message.cameras) showCameras(message.cameras);
    if (message.refused) { $("said").textContent = message.refused; saidAt = performance.now(); teleop.refused = message.refused; }
  };
  socket.onclose = () => { sent.clear(); setTimeout(connect, 1000); };
}
connect();
