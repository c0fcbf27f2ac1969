// How a phone has been turned since a finger came down, as shares of the arm's full speed. Knows neither page nor arm.
const RAD = Math.PI / 180;
const DEAD = 4 * RAD, FULL = 30 * RAD;             // tilt that moves nothing; that moves at full speed
const TWIST_DEAD = 10 * RAD, TWIST_FULL = 45 * RAD; // the same for a turn about the screen's own axis
const WAIT = 1500;                                 // for the first event of the sensor [ms]

let listener = null;  // what hears the sensor; null while it is not used
let newest = null;    // last orientation of the screen, as a unit quaternion [w, x, y, z]
let reference = null; // the same when the finger came down; null while none is down
let waits = false;    // whether a finger is down and nothing was heard of the sensor yet

export const isOn = () => listener !== null;

// Begin to listen, after a click: iPhones ask their owner then. Returns why not in words, or "".
export async function start(onChange) {
  if (!isSecureContext) {
    return "Tilt: the browser tells it only to pages of https or localhost, and this one came by plain http. Give emu-robot teleop a certificate= and key=.";
  }
  if (!("DeviceOrientationEvent" in window)) return "Tilt: this browser has no DeviceOrientation.";
  if (typeof DeviceOrientationEvent.requestPermission === "function") {
    const answer = await DeviceOrientationEvent.requestPermission().catch((error) => error.message);
    if (answer !== "granted") return `Tilt: not permitted (${answer}). Close the tab, open it again, and allow motion and orientation.`;
  }
  return await new Promise((resolve) => {
    const hear = (event) => {
      if (![event.alpha, event.beta, event.gamma].every(Number.isFinite)) return;
      newest = orientation(event);
      if (waits) { reference = newest; waits = false; }
      clearTimeout(timer);
      resolve("");
      onChange();
    };
    const timer = setTimeout(() => { stop(); resolve("Tilt: this device tells none; it has no such sensor, or the browser blocks it."); }, WAIT);
    listener = hear;
    addEventListener("deviceorientation", hear);
  });
}
export function stop() {
  removeEventListener("deviceorientation", listener);
  listener = newest = null;
  release();
}

// The finger came down: the phone counts as level as it is held now.
export function hold() { reference = newest; waits = newest === null; }
export function release() { reference = null; waits = false; }

// Shares [right, away, turned left], each in [-1, 1].
export function shares() {
  if (!reference || !newest) return [0, 0, 0];
  const [x, y, z] = turnBetween(reference, newest);
  return [share(y, DEAD, FULL), -share(x, DEAD, FULL), share(z, TWIST_DEAD, TWIST_FULL)];
}

function share(angle, dead, full) {
  return Math.sign(angle) * Math.min(Math.max((Math.abs(angle) - dead) / (full - dead), 0), 1);
}

// Alpha, beta and gamma turn about the device's z, then x, then y axis; the last turn leads to the screen as it is read.
function orientation({ alpha, beta, gamma }) {
  const steps = [about(2, alpha), about(0, beta), about(1, gamma), about(2, -(screen.orientation?.angle ?? 0))];
  return steps.reduce(times);
}
function about(axis, degrees) {
  const half = degrees * RAD / 2, turn = [Math.cos(half), 0, 0, 0];
  turn[axis + 1] = Math.sin(half);
  return turn;
}
function times([a, b, c, d], [e, f, g, h]) {
  return [a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g, a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e];
}

// The turn as a vector along the axes of the screen before it: to the right, up, towards the eyes [rad].
function turnBetween([w, x, y, z], after) {
  const [cosine, ...axis] = times([w, -x, -y, -z], after);
  const sine = Math.hypot(...axis), angle = 2 * Math.atan2(sine, Math.abs(cosine));
  return axis.map((value) => sine < 1e-9 ? 0 : Math.sign(cosine || 1) * value / sine * angle);
}
