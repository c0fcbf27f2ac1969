// The cameras' pictures on the page /pad.
const $ = (id) => document.getElementById(id);
const newest = new Map();  // index of a camera -> its newest picture, decoded for the headset

export const bitmaps = () => [...newest.values()];
export function showCameras(names) {
  newest.clear();
  $("cameras").replaceChildren(...names.map((name, i) => {
    const figure = document.createElement("figure"), image = document.createElement("img"), caption = document.createElement("figcaption");
    image.id = `camera${i}`; image.alt = `camera ${name}`; caption.textContent = name;
    figure.append(image, caption);
    return figure;
  }));
}
// data: a JPEG after one byte, the index of its camera. decodes: whether it is wanted as a bitmap, too.
export function showPicture(data, decodes) {
  const index = new Uint8Array(data, 0, 1)[0], image = $(`camera${index}`);
  if (!image) return;
  const before = image.src, picture = new Blob([new Uint8Array(data, 1)], { type: "image/jpeg" });
  image.src = URL.createObjectURL(picture);
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  if (decodes) createImageBitmap(picture).then((bitmap) => { newest.get(index)?.close(); newest.set(index, bitmap); });
}
