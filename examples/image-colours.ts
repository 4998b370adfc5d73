/**
 * Codebooks are not only for weights: here the colours of an image become a palette. A metric makes errors in green
 * count more than errors in blue, as they do for the eye.
 *
 * Run it with `npx tsx examples/image-colours.ts`; it writes out/colours-*.ppm, which most image viewers open.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { fitCodebook, type Matrix, matrix } from 'gptvq'

const [width, height] = [96, 64]

/** A sunset over hills, a pixel per row: red, green and blue from 0 to 255. */
function sunset(): Matrix {
  const pixels = matrix(width * height, 3)
  for (let i = 0; i < pixels.rows; i++) {
    const [x, y] = [i % width, Math.floor(i / width)]
    const sun = Math.exp(-((x - 60) ** 2 + (y - 30) ** 2) / 160)
    const hill = 44 + 5 * Math.sin(x / 9) + 3 * Math.sin(x / 4)
    const colour =
      y > hill
        ? [20 + y / 2, 90 - y / 2 + 12 * Math.sin(x * y), 30]
        : [60 + 2.5 * y + 90 * sun, 80 + y + 110 * sun, 190 - 2 * y + 20 * sun]
    pixels.data.set(colour, 3 * i)
  }
  return pixels
}

/** Every pixel in its colour of the palette. */
function paint(palette: Matrix, assignments: Uint16Array): Uint8Array {
  const bytes = new Uint8Array(3 * assignments.length)
  for (const [i, colour] of assignments.entries()) {
    for (let c = 0; c < 3; c++) bytes[3 * i + c] = Math.round(palette.data[3 * colour + c])
  }
  return bytes
}

/** 10 log10(255^2 / mean squared error). */
function peakSnr(image: Matrix, painted: Uint8Array): number {
  let error = 0
  for (const [i, value] of image.data.entries()) error += (value - painted[i]) ** 2
  return 10 * Math.log10((255 ** 2 * painted.length) / error)
}

const image = sunset()
const metric = matrix(1, 3, Float32Array.of(0.3, 0.59, 0.11)) // one row: the same for every pixel
await mkdir('out', { recursive: true })
for (const k of [2, 4, 16, 64]) {
  const { codebook, assignments, losses } = fitCodebook(image, { k, metric, init: 'kmeans++' })
  const painted = paint(codebook, assignments)
  const file = `out/colours-${k}.ppm`
  await writeFile(file, Buffer.concat([Buffer.from(`P6 ${width} ${height} 255\n`), painted]))
  const bits = Math.log2(k) + (24 * k) / image.rows
  console.log(
    `${String(k).padStart(2)} colours  ${bits.toFixed(2)} bits per pixel  ${peakSnr(image, painted).toFixed(2)} dB  ` +
      `${losses.length} assignments  ${file}`,
  )
}
