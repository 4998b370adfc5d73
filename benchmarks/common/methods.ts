import {
  bitsPerValue,
  dequantizeLayer,
  dequantizeScalar,
  type LayoutOptions,
  type Matrix,
  packedBytes,
  packLayer,
  packScalar,
  quantizeGptq,
  quantizeKmeans,
  quantizeLayer,
  quantizeRtn,
  type ScalarOptions,
} from 'gptvq'

/** A layer quantized: the weights it stands for, and what storing it takes. */
export interface Quantized {
  readonly values: Matrix
  readonly bits: number
  readonly bytes: number
}

/** One point of the comparison. */
export interface Setting {
  readonly method: string
  readonly setting: string
  readonly quantize: (weight: Matrix, hessian: Matrix) => Promise<Quantized>
}

type Vector = [vectorDim: 1 | 2 | 4, options: LayoutOptions]

/** Settings that fit a layer's size between 2 and 4.5 bits per value; `large` for a layer of 512 columns and 2^18 weights. */
export function settings({ quick, large }: { quick: boolean; large: boolean }): Setting[] {
  if (quick) {
    return [
      rtn(2, 128),
      gptq(2, 128),
      gptq(3, 128),
      kmeans(2, { bits: 2 }),
      gptvq(1, { bits: 2 }),
      gptvq(2, { bits: 2 }),
    ]
  }
  const scalar: ScalarOptions[] = [2, 3, 4].flatMap((bits) =>
    [128, 32].map((groupSize) => ({ bits, groupSize })),
  )
  const affordable = scalar.filter(({ bits, groupSize }) => bits + (16 + bits) / groupSize! <= 4.5)
  const dims: (1 | 2 | 4)[] = [1, 2, 4]
  // ml-kmeans takes minutes for larger codebooks
  const plain: Vector[] = dims.flatMap((dim) =>
    (dim === 4 ? [2] : [2, 3, 4]).map((bits): Vector => [dim, { bits }]),
  )
  const own: Vector[] = [
    ...plain,
    ...dims.map((dim): Vector => [dim, { bits: 2, bpv: 2.5 }]),
    [1, { bits: 3, bpv: 3.5 }],
    [2, { bits: 3, bpv: 3.5 }],
    ...(large ? [[4, { bits: 3, groupSize: 2 ** 18, columnsPerGroup: 512 }] satisfies Vector] : []),
  ]
  return [
    ...affordable.map(({ bits, groupSize }) => rtn(bits, groupSize!)),
    ...affordable.map(({ bits, groupSize }) => gptq(bits, groupSize!)),
    ...plain.map(([dim, options]) => kmeans(dim, options)),
    ...own.map(([dim, options]) => gptvq(dim, options)),
  ]
}

function rtn(bits: number, groupSize: number): Setting {
  return {
    method: 'RTN',
    setting: `${bits} bits, groups of ${groupSize}`,
    async quantize(weight) {
      return scalarResult(quantizeRtn(weight, { bits, groupSize }))
    },
  }
}

function gptq(bits: number, groupSize: number): Setting {
  return {
    method: 'GPTQ',
    setting: `${bits} bits, groups of ${groupSize}`,
    async quantize(weight, hessian) {
      return scalarResult(await quantizeGptq(weight, hessian, { bits, groupSize }))
    },
  }
}

function kmeans(vectorDim: 1 | 2 | 4, options: LayoutOptions): Setting {
  return {
    method: `k-means ${vectorDim}-D`,
    setting: inWords(options),
    async quantize(weight) {
      return vectorResult(quantizeKmeans(weight, { vectorDim, ...options }))
    },
  }
}

function gptvq(vectorDim: 1 | 2 | 4, options: LayoutOptions): Setting {
  return {
    method: `GPTVQ ${vectorDim}-D`,
    setting: inWords(options),
    async quantize(weight, hessian) {
      return vectorResult(await quantizeLayer(weight, hessian, { vectorDim, ...options }))
    },
  }
}

function inWords({ bits, bpv, groupSize }: LayoutOptions): string {
  if (bpv !== undefined) return `${bits} bits, at most ${bpv}`
  return groupSize === undefined ? `${bits} bits` : `${bits} bits, one codebook`
}

function scalarResult(layer: ReturnType<typeof quantizeRtn>): Quantized {
  const packed = packScalar(layer)
  return { values: dequantizeScalar(layer), bits: bitsPerValue(packed).total, bytes: packedBytes(packed) }
}

function vectorResult(layer: ReturnType<typeof quantizeKmeans>): Quantized {
  const packed = packLayer(layer)
  return { values: dequantizeLayer(layer), bits: bitsPerValue(packed).total, bytes: packedBytes(packed) }
}
