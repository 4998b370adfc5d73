import { EventEmitter } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { abortOnSignals } from '../../src/cli/terminal/interrupt.js'
import { tree } from '../checkpoint/fixtures.js'
import { tinyLlamaFolder } from '../model/tiny-llama.js'
import { tinyText, writeTinyModel } from '../support/tiny-model.js'
import { cli, folderOfFile, resultOf, startCli, startScript } from './support.js'

describe('abortOnSignals', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s aborts, and the reason is its name', (name) => {
    const source = new EventEmitter()
    const { signal } = abortOnSignals(source)
    expect(signal.aborted).toBe(false)
    source.emit(name, name)
    expect(signal.reason).toBe(name)
  })

  test('a signal that a launcher passes on once more does not count twice', () => {
    vi.useFakeTimers()
    const source = new EventEmitter()
    const { signal } = abortOnSignals(source)
    source.emit('SIGINT', 'SIGINT')
    vi.advanceTimersByTime(100)
    expect(source.listenerCount('SIGINT')).toBe(1)
    source.emit('SIGTERM', 'SIGTERM')
    expect(signal.reason).toBe('SIGINT')
  })

  test('the second signal is left to the system, which ends the process', () => {
    vi.useFakeTimers()
    const source = new EventEmitter()
    abortOnSignals(source)
    source.emit('SIGINT', 'SIGINT')
    vi.advanceTimersByTime(1000)
    expect(source.eventNames()).toEqual([])
  })

  test('nothing is left behind when the work is done', () => {
    const source = new EventEmitter()
    abortOnSignals(source).release()
    expect(source.eventNames()).toEqual([])
  })
})

describe('a command that is stopped', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])('by %s halfway exits with %i and leaves the folder as it was', async (name, code) => {
    const folder = await folderOfFile()
    const model = join(folder, 'model')
    const calibration = join(folder, 'calibration.txt')
    const quantized = join(folder, 'quantized')
    await writeTinyModel(model)
    await writeFile(calibration, tinyText(1000))
    expect((await cli(['quantize', model, '--out', quantized, '--method', 'rtn'])).code).toBe(0)
    const plain = join(folder, 'plain')
    expect((await cli(['dequantize', quantized, '--out', plain])).code).toBe(0)
    const before = await tree(folder)
    const calls = [
      ['quantize', model, '--out', join(folder, 'new'), '--calibration', calibration],
      ['quantize', model, '--out', join(folder, 'new'), '--sequences', '2'],
      ['quantize', model, '--out', quantized, '--force', '--calibration', calibration],
      ['quantize', model, '--out', quantized, '--force', '--method', 'rtn'],
      ['dequantize', quantized, '--out', join(folder, 'new')],
      ['dequantize', quantized, '--out', plain, '--force'],
      ['eval', model, '--text', calibration],
    ]
    for (const args of calls) {
      const controller = new AbortController()
      const onStderr = () => controller.abort(name)
      const { stdout, stderr, ...rest } = await cli(args, { signal: controller.signal, onStderr })
      expect({ args, code: rest.code, stdout }).toEqual({ args, code, stdout: '' })
      expect(stderr).toMatch(
        args[0] === 'eval'
          ? /\nstopping.*\ngptvq: stopped\n$/
          : /\nstopping.*\ngptvq: stopped; nothing was written\n$/,
      )
      expect(await tree(folder)).toEqual(before)
    }
  })
})

describe('a signal while an output is moved to its place', () => {
  test('comes too late, and what is printed says that the output is there', async () => {
    const folder = await folderOfFile()
    const [model, quantized, plain] = ['model', 'quantized', 'plain'].map((name) => join(folder, name))
    await writeTinyModel(model)
    await cli(['quantize', model, '--out', quantized, '--method', 'rtn'])
    const controller = new AbortController()
    const onStderr = (text: string) => {
      if (text.includes('writing ')) controller.abort('SIGINT')
    }
    const args = ['dequantize', quantized, '--out', plain, '--progress', 'json']
    const { code, stdout, stderr } = await cli(args, { signal: controller.signal, onStderr })
    expect(stderr).toMatch(/stopping.*\n.*it was done before it could be stopped/)
    expect(stdout).toContain(`is written as plain weights to ${plain}`)
    expect(code).toBe(0)
    expect(await readdir(plain)).toContain('config.json')
  })
})

// Windows has no SIGINT that one process could send to another
describe.runIf(process.platform !== 'win32')('in a process of its own', () => {
  const untilPrinted = async (child: ReturnType<typeof startCli>, words: string) => {
    let seen = ''
    await new Promise<void>((resolve, reject) => {
      child.stderr?.on('data', (data) => {
        seen += data
        if (seen.includes(words)) resolve()
      })
      child.on('close', () => reject(new Error(`the process ended before it printed '${words}': ${seen}`)))
    })
  }

  test('Ctrl-C in the middle of a model exits with 130, and an earlier output is as it was', async () => {
    const folder = await folderOfFile()
    const output = join(folder, 'out')
    const quick = ['--kmeans-iterations', '10', '--refinement-rounds', '0', '--codebook-update-steps', '4']
    const flags = [
      ...quick,
      '--sequences',
      '2',
      '--sequence-length',
      '64',
      '--unfinished',
      'discard',
      '--calibration',
    ]
    const text = join(tinyLlamaFolder, 'texts', 'calibration.txt')
    await mkdir(output)
    await writeFile(join(output, 'config.json'), '{}')
    await writeFile(join(output, 'mine.txt'), 'earlier')
    const before = await tree(folder)
    const child = startCli(['quantize', tinyLlamaFolder, '--out', output, '--force', ...flags, text])
    const ended = resultOf(child)
    await untilPrinted(child, 'block 2 of 4')
    expect((await readdir(folder)).length).toBe(2)
    child.kill('SIGINT')
    const { code, killedBy, stdout, stderr } = await ended
    expect({ code, killedBy, stdout }).toEqual({ code: 130, killedBy: null, stdout: '' })
    expect(stderr).toContain('gptvq: stopped; nothing was written')
    expect(await tree(folder)).toEqual(before)
  })

  test('a second Ctrl-C ends a program that does not stop at the first', async () => {
    const child = startScript('test/cli/never-stops.ts')
    const ended = resultOf(child)
    await untilPrinted(child, 'started')
    child.kill('SIGINT')
    await untilPrinted(child, 'released after SIGINT')
    child.kill('SIGINT')
    expect(await ended).toMatchObject({ code: null, killedBy: 'SIGINT' })
  })
})
