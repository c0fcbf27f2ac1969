// A controller of a headset, by WebXR: where it is while it is squeezed, and its trigger. Knows neither page nor arm.
import { Board } from "/pad/headset_board.js";

const SILENT = 60;               // time without a frame after which the page says nothing of a hold [ms]
const CLOSES = 0.6, OPENS = 0.4; // places of the trigger
const BUTTONS = [4, 5];         // A and B, or X and Y, in the order of the standard mapping

let session = null, space = null, board = null, tell = null;
let held = null;      // the input source that is squeezed, and tracked since then
let place = null;     // its newest pose as x, y, z and a quaternion, along right, away, up
let triggered = false, grip = 0;
let frameAt = 0;
const pressed = new Map(); // input source -> its buttons in the last frame

export const isOn = () => session !== null;

// What the hand wants now: `hand` is where it is, `grip` 1 opens, -1 closes, 0 neither. Null while nothing is squeezed.
export function wish() { return held && place ? { hand: place, grip } : null; }

// Whether the arm is held and the headset tells nothing: then nothing must keep the arm's watchdog quiet.
export const isSilent = () => held !== null && performance.now() - frameAt > SILENT;

// Enter the headset, after a click. told: { onChange, onRelease, onButton, onEnd, images, words }. Returns why not in words, or "".
export async function start(told) {
  if (!isSecureContext) {
    return "Headset: the browser shows it only to pages of https or localhost, and this one came by plain http. Give emu-robot teleop a certificate= and key=.";
  }
  if (!navigator.xr) return "Headset: this browser has no WebXR. A headset's own browser has it, or Chrome on a computer with one.";
  try {
    session = await navigator.xr.requestSession("immersive-vr");
  } catch (error) {
    return error.name === "NotSupportedError" ? "Headset: this browser finds none." : `Headset: ${error.message}`;
  }
  tell = told;
  try {
    space = await session.requestReferenceSpace("local");
    board = new Board(session);
  } catch (error) {
    await stop();
    return `Headset: ${error.message}`;
  }
  session.addEventListener("end", ended);
  session.addEventListener("squeezestart", ({ inputSource }) => { if (!held) squeeze(inputSource); });
  session.addEventListener("squeezeend", ({ inputSource }) => { if (inputSource === held) release(); });
  session.addEventListener("inputsourceschange", ({ removed }) => { if (removed.includes(held)) release("Headset: the controller is gone."); });
  session.addEventListener("visibilitychange", () => { if (session && session.visibilityState !== "visible") release(); });
  space.addEventListener("reset", () => release("Headset: its place was reset; squeeze again."));
  session.requestAnimationFrame(onFrame);
  return "";
}
export async function stop() { await session?.end().catch(() => {}); ended(); }

function ended() {
  if (!session) return;
  session = space = board = null;
  pressed.clear();
  release();
  tell.onEnd();
}
function squeeze(source) {
  held = source;
  place = null;
  grip = 0;  // what it holds, it keeps, until the trigger moves
  triggered = (source.gamepad?.buttons[0]?.value ?? 0) > CLOSES;
}
function release(why = "") {
  if (!held) return;
  held = place = null;
  tell.onRelease(why);
}

function onFrame(time, frame) {
  if (!session) return;
  session.requestAnimationFrame(onFrame);
  frameAt = performance.now();
  if (held) follow(frame);
  hearButtons();
  board.draw(frame, space, tell.images(), tell.words());
}
function follow(frame) {
  const pose = held.gripSpace && frame.getPose(held.gripSpace, space);
  if (!pose || pose.emulatedPosition) { release("Headset: the controller is out of its sight; squeeze again."); return; }
  const { position: p, orientation: q } = pose.transform;
  place = [p.x, -p.z, p.y, q.x, -q.z, q.y, q.w];
  const trigger = held.gamepad?.buttons[0]?.value ?? 0;
  if (!triggered && trigger > CLOSES) { triggered = true; grip = -1; }
  if (triggered && trigger < OPENS) { triggered = false; grip = 1; }
  tell.onChange();
}
function hearButtons() {
  for (const source of session.inputSources) {
    const now = BUTTONS.map((i) => Boolean(source.gamepad?.buttons[i]?.pressed)), before = pressed.get(source) || now;
    pressed.set(source, now);
    now.forEach((down, i) => { if (down && !before[i]) tell.onButton(i); });
  }
}
