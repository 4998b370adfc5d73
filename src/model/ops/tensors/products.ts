import * as tf from '@tensorflow/tfjs-core'
import { type Block, type ProductForm, wholeBlock } from '../../../kernels/contract.js'
import { kernels } from '../../../kernels/kernels.js'

/** What this file uses of the wasm engine: its memory, and where its tensors lie in it. */
interface WasmEngine {
  readonly wasm: { readonly HEAPU8: Uint8Array }
  readonly dataIdMap: { get(dataId: object): { readonly memoryOffset: number } }
  makeOutput(shape: number[], dtype: 'float32'): tf.TensorInfo
}

interface ProductArgs {
  readonly inputs: tf.NamedTensorInfoMap
  readonly attrs?: tf.NamedAttrMap
  readonly backend: unknown
}

/**
 * Products of fewer rows, or with a smaller matrix on the right, are left to the engine: handing them over takes longer
 * than doing them. The total number of rows does not count, so that a row's result does not depend on it.
 */
const FEWEST_ROWS = 32
const SMALLEST_RIGHT = 2 ** 12
/** The same for transposed operands and stacks, which the engine multiplies by a plain loop. */
const SMALLEST_RIGHT_OF_LOOP = 2 ** 6

const kernelNames = [tf.BatchMatMul, tf._FusedMatMul] as const

const engineKernels = new Map<string, tf.KernelConfig>()

/**
 * Has the wasm engine's matrix products done by the SIMD kernels of this package, on all their threads; the engine's
 * own run on one. A product's result depends on its shapes and values only, not on the number of threads. Where no
 * gradient is asked for, these kernels also take the place of the engine's other operations: see `runningOps`.
 */
export function useOwnProducts(): void {
  for (const name of kernelNames) {
    const engineKernel = tf.getKernel(name, 'wasm')
    if (engineKernel === undefined || engineKernels.has(name)) continue
    engineKernels.set(name, engineKernel)
    const kernelFunc = (args: ProductArgs) =>
      multiply(args) ?? engineKernel.kernelFunc(args as Parameters<tf.KernelFunc>[0])
    replaceKernel({ ...engineKernel, kernelFunc: kernelFunc as tf.KernelFunc })
  }
}

/** Has the wasm engine do everything by itself again: for tests and benchmarks. */
export function useEngineProducts(): void {
  for (const kernel of engineKernels.values()) replaceKernel(kernel)
  engineKernels.clear()
}

function replaceKernel(kernel: tf.KernelConfig): void {
  tf.unregisterKernel(kernel.kernelName, kernel.backendName)
  tf.registerKernel(kernel)
}

/** Whether blocks and heads are to run on the kernels of this package: see {@link useOwnProducts}. */
export function usesOwnKernels(): boolean {
  return tf.getBackend() === 'wasm' && engineKernels.size > 0
}

/** A tensor's values in the memory of the wasm engine: a view that holds until the engine makes its next tensor. */
export function engineFloats(tensor: tf.Tensor): Float32Array {
  return floatsOf(tf.backend() as unknown as WasmEngine, tensor)
}

/** The product of two stacks of matrices, with what may follow it; undefined: the engine is to do it. */
function multiply({ inputs, attrs, backend }: ProductArgs): tf.TensorInfo | undefined {
  const { a, b, bias, preluActivationWeights } = inputs as Partial<tf.NamedTensorInfoMap>
  if (!a || !b) return undefined
  const activation = attrs?.activation ?? 'linear'
  if (preluActivationWeights || (activation !== 'linear' && activation !== 'relu')) return undefined
  const shapes = productShapes(a, b, Boolean(attrs?.transposeA), Boolean(attrs?.transposeB))
  if (shapes === undefined || isSmall(shapes)) return undefined
  if (bias && !(bias.dtype === 'float32' && bias.shape.length === 1 && bias.shape[0] === shapes.n)) {
    return undefined
  }
  const engine = backend as WasmEngine
  const product = engine.makeOutput([...shapes.batch, shapes.m, shapes.n], 'float32')
  // views after the output is there: making it may move the memory
  const values = floatsOf(engine, product)
  multiplyStacks(shapes, floatsOf(engine, a), floatsOf(engine, b), values)
  if (bias) addToRows(values, floatsOf(engine, bias))
  if (activation === 'relu') for (let i = 0; i < values.length; i++) if (values[i] < 0) values[i] = 0
  return product
}

function isSmall({ m, n, k, transposeA, transposeB, pairs, repeatsParts }: ProductShapes): boolean {
  // the engine pairs the matrices of such stacks wrongly
  if (repeatsParts) return false
  if (transposeA || transposeB || pairs.length > 1) return n * k < SMALLEST_RIGHT_OF_LOOP
  return m < FEWEST_ROWS || n * k < SMALLEST_RIGHT
}

function floatsOf({ wasm, dataIdMap }: WasmEngine, { dataId, shape }: tf.TensorInfo): Float32Array {
  return new Float32Array(
    wasm.HEAPU8.buffer,
    dataIdMap.get(dataId).memoryOffset,
    tf.util.sizeFromShape(shape),
  )
}

/** Stacks of m x k and k x n matrices, as stored, and the m x n matrices they give. */
interface ProductShapes {
  readonly m: number
  readonly n: number
  readonly k: number
  readonly transposeA: boolean
  readonly transposeB: boolean
  /** The shape of the stack of products. */
  readonly batch: number[]
  /** Of each product, which matrix of `a` and of `b` it multiplies. */
  readonly pairs: readonly (readonly [number, number])[]
  /** One of the stacks is broadcast along some of its axes only. */
  readonly repeatsParts: boolean
}

/** Undefined where the engine is to do the product, or to say what is wrong with it. */
function productShapes(
  a: tf.TensorInfo,
  b: tf.TensorInfo,
  transposeA: boolean,
  transposeB: boolean,
): ProductShapes | undefined {
  if (a.dtype !== 'float32' || b.dtype !== 'float32' || a.shape.length < 2 || b.shape.length < 2) {
    return undefined
  }
  const [aRows, aCols] = a.shape.slice(-2)
  const [bRows, bCols] = b.shape.slice(-2)
  const [m, k] = transposeA ? [aCols, aRows] : [aRows, aCols]
  const [bInner, n] = transposeB ? [bCols, bRows] : [bRows, bCols]
  if (k !== bInner) return undefined
  const [aBatch, bBatch] = [a.shape.slice(0, -2), b.shape.slice(0, -2)]
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(aBatch, bBatch)
  const ofA = broadcastIndices(aBatch, batch)
  const ofB = broadcastIndices(bBatch, batch)
  const pairs = ofA.map((index, i) => [index, ofB[i]] as const)
  const sizes = [aBatch, bBatch].map((shape) => tf.util.sizeFromShape(shape))
  const repeatsParts = sizes.some((size) => size !== 1 && size !== pairs.length)
  return { m, n, k, transposeA, transposeB, batch, pairs, repeatsParts }
}

/** For each element of a stack of shape `to`, in order, the element of a stack of shape `from` that stands for it. */
function broadcastIndices(from: readonly number[], to: readonly number[]): number[] {
  let indices = [0]
  for (const [axis, size] of to.entries()) {
    const own = from[axis - (to.length - from.length)] ?? 1
    indices = indices.flatMap((index) =>
      Array.from({ length: size }, (_, i) => index * own + (own === 1 ? 0 : i)),
    )
  }
  return indices
}

function multiplyStacks(shapes: ProductShapes, a: Float32Array, b: Float32Array, c: Float32Array): void {
  const { m, n, k, transposeA, transposeB, pairs } = shapes
  const { gemm } = kernels()
  const form: ProductForm = transposeB ? 'ABt' : transposeA ? 'AtB' : 'AB'
  if (!transposeA && pairs.every(([left, right], i) => left === i && right === 0)) {
    // one matrix on the right of all: the matrices on the left are one tall matrix
    gemm(
      form,
      pairs.length * m,
      n,
      k,
      1,
      wholeBlock(a, k),
      stored(b, 0, k, n, transposeB),
      0,
      wholeBlock(c, n),
    )
    return
  }
  for (const [i, [left, right]] of pairs.entries()) {
    const bothTransposed = transposeA && transposeB
    const aBlock = bothTransposed
      ? wholeBlock(transposed(a.subarray(left * m * k, (left + 1) * m * k), k, m), k)
      : stored(a, left, m, k, transposeA)
    const product = { data: c, offset: i * m * n, stride: n }
    gemm(form, m, n, k, 1, aBlock, stored(b, right, k, n, transposeB), 0, product)
  }
}

/** Matrix `index` of a stack of rows x cols matrices that may be stored transposed. */
function stored(data: Float32Array, index: number, rows: number, cols: number, transpose: boolean): Block {
  return { data, offset: index * rows * cols, stride: transpose ? rows : cols }
}

function transposed(source: Float32Array, rows: number, cols: number): Float32Array {
  const target = new Float32Array(source.length)
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) target[j * rows + i] = source[i * cols + j]
  }
  return target
}

function addToRows(values: Float32Array, bias: Float32Array): void {
  const n = bias.length
  for (let row = 0; row < values.length; row += n) {
    for (let j = 0; j < n; j++) values[row + j] += bias[j]
  }
}
