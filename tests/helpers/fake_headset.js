// A headset with one controller for tests: what WebXR promises to a page, as far as a page may use it here.
// window.fakeHeadset moves it. Poses are along WebXR's axes: right, up, towards the user.
(() => {
  const invert = (m) => { const r = [0, 1, 2].map((i) => [0, 1, 2].map((j) => m[4 * i + j])), t = m.slice(12, 15);
    const back = r.map((row) => -(row[0] * t[0] + row[1] * t[1] + row[2] * t[2]));
    return [r[0][0], r[1][0], r[2][0], 0, r[0][1], r[1][1], r[2][1], 0, r[0][2], r[1][2], r[2][2], 0, ...back, 1]; };
  const shift = (x) => [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, 0, 0, 1];
  const lens = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1.02, -1, 0, 0, -0.2, 0];
  const button = () => ({ pressed: false, touched: false, value: 0 });
  const gamepad = { mapping: "xr-standard", axes: [0, 0, 0, 0], buttons: Array.from({ length: 6 }, button) };
  const source = { handedness: "right", targetRayMode: "tracked-pointer", gripSpace: {}, gamepad };
  const fake = window.fakeHeadset = { position: [0.2, -0.3, -0.4], orientation: [0, 0, 0, 1], tracked: true, emulated: false, freezes: false, session: null, seen: null };

  let way = null;

  class Layer {
    constructor(session, gl) { this.gl = gl; this.framebuffer = null; gl.canvas.width = 160; gl.canvas.height = 80; }
    getViewport(eye) { return { x: eye.eye === "left" ? 0 : 80, y: 0, width: 80, height: 80 }; }
  }
  class Session extends EventTarget {
    visibilityState = "visible"; inputSources = [source]; renderState = {}; callbacks = []; ends = false;
    constructor() { super(); this.timer = setInterval(() => this.frame(), 14); }
    async requestReferenceSpace(kind) { this.kind = kind; return this.space = new EventTarget(); }
    updateRenderState(state) { this.renderState = { ...this.renderState, ...state }; }
    requestAnimationFrame(callback) { this.callbacks.push(callback); return this.callbacks.length; }
    async end() { if (this.ends) throw new DOMException("the session has ended", "InvalidStateError"); this.ends = true; clearInterval(this.timer); this.dispatchEvent(new Event("end")); }
    frame() {
      if (fake.freezes) return;
      if (way) {
        const share = Math.min((performance.now() - way.begun) / way.lasts, 1), half = share * way.turn / 2;
        fake.position = way.from.map((value, i) => value + share * way.step[i]);
        fake.orientation = [0, Math.sin(half), 0, Math.cos(half)];
        if (share === 1) way = null;
      }
      const frame = {
        session: this,
        getViewerPose: () => ({ views: [["left", -0.03], ["right", 0.03]].map(([eye, x]) => ({ eye, projectionMatrix: new Float32Array(lens), transform: { inverse: { matrix: new Float32Array(invert(shift(x))) } } })) }),
        getPose: (space, base) => {
          if (space !== source.gripSpace || base !== this.space) throw new Error("unknown space");
          const [x, y, z] = fake.position, [a, b, c, w] = fake.orientation;
          return fake.tracked ? { emulatedPosition: fake.emulated, transform: { position: { x, y, z, w: 1 }, orientation: { x: a, y: b, z: c, w } } } : null;
        },
      };
      const callbacks = this.callbacks;
      this.callbacks = [];
      for (const callback of callbacks) callback(performance.now(), frame);
      if (fake.wantsPicture && this.renderState.baseLayer) { fake.seen = this.renderState.baseLayer.gl.canvas.toDataURL(); fake.wantsPicture = false; }
    }
    say(name, more) { this.dispatchEvent(Object.assign(new Event(name), more)); }
  }
  window.XRWebGLLayer = Layer;
  Object.defineProperty(navigator, "xr", { configurable: true, value: {
    isSessionSupported: async (mode) => mode === "immersive-vr",
    requestSession: async (mode) => {
      if (!navigator.userActivation.isActive) throw new DOMException("needs a click", "SecurityError");
      if (mode !== "immersive-vr") throw new DOMException("no such mode", "NotSupportedError");
      return fake.session = new Session();
    },
  } });
  Object.assign(fake, {
    // Move by step [m], and turn to the left by `turn` [rad], within `lasts` [ms].
    goes(step, turn, lasts) { way = { from: fake.position, step, turn, lasts, begun: performance.now() }; },
    squeeze(down) { Object.assign(gamepad.buttons[1], { pressed: down, value: Number(down) }); fake.session.say(down ? "squeezestart" : "squeezeend", { inputSource: source }); },
    trigger(value) { Object.assign(gamepad.buttons[0], { pressed: value > 0.5, value }); },
    press(i, down) { Object.assign(gamepad.buttons[i], { pressed: down, value: Number(down) }); },
    hide(hidden) { fake.session.visibilityState = hidden ? "visible-blurred" : "visible"; fake.session.say("visibilitychange"); },
    recentre() { fake.session.space.dispatchEvent(new Event("reset")); },
    unplug() { fake.session.say("inputsourceschange", { added: [], removed: [source] }); },
  });
})();
