import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import * as tf from '@tensorflow/tfjs-core'
import { describe, expect, it, vi } from 'vitest'
import { OptionError, UnsupportedError } from '../../../src/common/errors.js'
import { assertEngineHolds, type EngineName, startEngine } from '../../../src/model/ops/engine.js'
import { availableEngines } from '../../support/engines.js'

const errorHandlers = () => [process.listeners('uncaughtException'), process.listeners('unhandledRejection')]
const handlersAtFirst = errorHandlers()
const logLevel = process.env.TF_CPP_MIN_LOG_LEVEL
const engines = await availableEngines()
const tensorflowLoads = engines.includes('tensorflow')
const run = promisify(execFile)

function sumOnEngine(): number {
  return tf.tidy(() => tf.sum(tf.matMul(tf.ones([2, 3]), tf.ones([3, 2])))).dataSync()[0]
}

describe('startEngine', () => {
  it.each(engines)('starts %s without a word on the console', async (name) => {
    const spies = (['log', 'warn', 'error', 'info'] as const).map((level) =>
      vi.spyOn(console, level).mockImplementation(() => {}),
    )
    expect(await startEngine(name)).toBe(name)
    expect(tf.getBackend()).toBe(name)
    expect(sumOnEngine()).toBe(12)
    for (const spy of spies) {
      expect(spy).not.toHaveBeenCalled()
      spy.mockRestore()
    }
  })

  it('leaves the settings and the error handlers of the process as they were', async () => {
    for (const engine of engines) await startEngine(engine)
    expect(errorHandlers()).toEqual(handlersAtFirst)
    expect(tf.env().getBool('PROD')).toBe(false)
    expect(process.env.TF_CPP_MIN_LOG_LEVEL).toBe(logLevel)
  })

  it.each(engines)('keeps standard error clean in a process of its own: %s', async (name) => {
    const { stdout, stderr } = await run(process.execPath, [
      ...['--import', 'tsx', '--input-type=module', '--eval'],
      `const { startEngine } = await import('./src/model.ts'); console.log(await startEngine('${name}'))`,
    ])
    expect(stdout).toBe(`${name}\n`)
    expect(stderr).toBe('')
  })

  it('starts tensorflow where its package loads, and says how to install it where not', async () => {
    if (tensorflowLoads) {
      expect(await startEngine('tensorflow')).toBe('tensorflow')
      expect(sumOnEngine()).toBe(12)
    } else {
      await expect(startEngine('tensorflow')).rejects.toThrow(UnsupportedError)
      await expect(startEngine('tensorflow')).rejects.toThrow('npm install @tensorflow/tfjs-node')
    }
  })

  it('picks what GPTVQ_ENGINE names under auto', async () => {
    vi.stubEnv('GPTVQ_ENGINE', 'cpu')
    expect(await startEngine('auto')).toBe('cpu')
    vi.stubEnv('GPTVQ_ENGINE', 'gpu')
    await expect(startEngine('auto')).rejects.toThrow(OptionError)
    vi.unstubAllEnvs()
  })

  it('picks tensorflow where it loads, else wasm, under auto', async () => {
    vi.stubEnv('GPTVQ_ENGINE', '')
    expect(await startEngine('auto')).toBe(tensorflowLoads ? 'tensorflow' : 'wasm')
    expect(await startEngine()).toBe(tensorflowLoads ? 'tensorflow' : 'wasm')
    vi.unstubAllEnvs()
  })

  it('refuses a name it does not know, listing those it does', async () => {
    await expect(startEngine('gpu' as EngineName)).rejects.toThrow(OptionError)
    await expect(startEngine('gpu' as EngineName)).rejects.toThrow('auto, wasm, cpu, tensorflow')
  })
})

describe('the memory of the wasm engine', () => {
  it('is checked before weights are loaded, naming them and the way out', async () => {
    await startEngine('wasm')
    expect(() => assertEngineHolds(2 ** 30, 'block 3')).not.toThrow()
    expect(() => assertEngineHolds(3 * 2 ** 30, 'block 3')).toThrow(UnsupportedError)
    expect(() => assertEngineHolds(3 * 2 ** 30, 'block 3')).toThrow(
      /block 3: needs 3.00 GiB .* engine tensorflow/,
    )
    await startEngine('cpu')
    expect(() => assertEngineHolds(3 * 2 ** 30, 'block 3')).not.toThrow()
  })

  it('gives an error when it is exhausted, where the engine alone would overwrite its own data', async () => {
    await startEngine('wasm')
    const backend = tf.backend() as unknown as { wasm: { _malloc(bytes: number): number } }
    expect(() => backend.wasm._malloc(2 ** 32 - 2 ** 16)).toThrow(UnsupportedError)
    expect(sumOnEngine()).toBe(12)
  })
})
