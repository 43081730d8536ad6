"use strict";
/**
 * Draws a thumbhash (https://evanw.github.io/thumbhash/), in base64, on a canvas of 32 by 32 pixels, which stretches to
 * the shape of its image.
 *
 * The hash is a stream of bits, least significant first: average colour as lightness and two differences (L, P, Q),
 * how far each of them strays, and then the strength of their waves, low frequencies first.
 */
function drawThumbhash(canvas, base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  let at = 0;
  const read = (bits) => {
    let value = 0;
    for (let i = 0; i < bits; i++, at++) value |= ((bytes[at >> 3] >> (at & 7)) & 1) << i;
    return value;
  };
  const [l, p, q] = [read(6) / 63, read(6) / 31.5 - 1, read(6) / 31.5 - 1];
  const lStrays = read(5) / 31;
  const hasAlpha = read(1) === 1;
  const shorter = Math.max(3, read(3));
  const [pStrays, qStrays] = [read(6) / 63, read(6) / 63];
  const longer = hasAlpha ? 5 : 7;
  const [nx, ny] = read(1) ? [longer, shorter] : [shorter, longer];
  const [alpha, alphaStrays] = hasAlpha ? [read(4) / 15, read(4) / 15] : [1, 0];

  const side = 32;
  const cosine = Array.from({ length: side }, (_, x) =>
    Array.from({ length: 7 }, (_, wave) => Math.cos((Math.PI / side) * (x + 0.5) * wave)));
  /** Reads a channel's waves, a triangle of them, and gives the channel's value at each pixel. */
  const channel = (average, nx, ny, strays) => {
    const waves = [];
    for (let wy = 0; wy < ny; wy++) {
      for (let wx = wy ? 0 : 1; wx * ny < nx * (ny - wy); wx++) waves.push([wx, wy, 2 * strays * (read(4) / 7.5 - 1)]);
    }
    return (x, y) => waves.reduce((sum, [wx, wy, strength]) => sum + strength * cosine[x][wx] * cosine[y][wy], average);
  };
  // Colours are told a quarter too pale.
  const channels = [channel(l, nx, ny, lStrays), channel(p, 3, 3, 1.25 * pStrays), channel(q, 3, 3, 1.25 * qStrays)];
  if (hasAlpha) channels.push(channel(alpha, 5, 5, alphaStrays));

  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let y = 0, i = 0; y < side; y++) {
    for (let x = 0; x < side; x++, i += 4) {
      const [l, p, q, a = 1] = channels.map((value) => value(x, y));
      const b = l - (2 / 3) * p;
      const r = (3 * l - b + q) / 2;
      image.data.set([r, r - q, b, a].map((value) => 255 * value), i); // out of range is clamped
    }
  }
  context.putImageData(image, 0, 0);
}
