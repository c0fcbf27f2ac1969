// What is seen in a headset: a board ahead with the cameras' pictures, and a line of words in the colour of the state.
const AHEAD = 1.5, WIDTH = 1.6;       // place and size of the board [m]
const PIXELS = 1024, LINE = 96, GAP = 12; // size of its picture, of the line of words, of what is between [px]
const VERTEX = `attribute vec2 corner; uniform mat4 projection, view; uniform vec2 half_size; varying vec2 at;
void main() { at = vec2(corner.x, -corner.y) * .5 + .5; gl_Position = projection * view * vec4(corner * half_size, -${AHEAD.toFixed(2)}, 1.); }`;
const FRAGMENT = "precision mediump float; uniform sampler2D picture; varying vec2 at; void main() { gl_FragColor = texture2D(picture, at); }";

export class Board {
  // session: an immersive one. Throws an Error without WebGL.
  constructor(session) {
    this.session = session;
    this.canvas = document.createElement("canvas");
    this.gl = document.createElement("canvas").getContext("webgl", { xrCompatible: true });
    if (!this.gl) throw new Error("this browser has no WebGL");
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "the shaders do not link");
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(gl.getAttribLocation(program, "corner"));
    gl.vertexAttribPointer(gl.getAttribLocation(program, "corner"), 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    this.at = (name) => gl.getUniformLocation(program, name);
    this.shown = [];
    session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
  }

  // Draw the board for both eyes. images: ImageBitmaps; words: { text, color, ground }.
  draw(frame, space, images, words) {
    const seen = frame.getViewerPose(space), gl = this.gl, layer = this.session.renderState.baseLayer;
    if (!seen || !layer) return;
    this.paint(images, words);
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    gl.clearColor(0.08, 0.09, 0.11, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.at("half_size"), WIDTH / 2, WIDTH / 2 * this.canvas.height / this.canvas.width);
    for (const eye of seen.views) {
      const part = layer.getViewport(eye);
      gl.viewport(part.x, part.y, part.width, part.height);
      gl.uniformMatrix4fv(this.at("projection"), false, eye.projectionMatrix);
      gl.uniformMatrix4fv(this.at("view"), false, eye.transform.inverse.matrix);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
  }

  paint(images, { text, color, ground }) {
    const now = [text, color, ground, ...images];
    if (now.length === this.shown.length && now.every((one, i) => one === this.shown[i])) return;
    this.shown = now;
    const width = (PIXELS - GAP * (images.length - 1)) / Math.max(images.length, 1);
    const heights = images.map((image) => width * image.height / image.width);
    this.canvas.width = PIXELS;
    this.canvas.height = LINE + Math.round(Math.max(0, ...heights));
    const pen = this.canvas.getContext("2d");
    pen.fillStyle = ground;
    pen.fillRect(0, 0, PIXELS, this.canvas.height);
    pen.fillStyle = color;
    pen.font = "600 34px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.fillText(text, GAP, LINE / 2, PIXELS - 2 * GAP);
    images.forEach((image, i) => pen.drawImage(image, i * (width + GAP), LINE, width, heights[i]));
    this.gl.texImage2D(this.gl.TEXTURE_2D, 0, this.gl.RGBA, this.gl.RGBA, this.gl.UNSIGNED_BYTE, this.canvas);
  }
}
