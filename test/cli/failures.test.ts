import { describe, expect, test } from 'vitest'
import { describeFailure, UsageError } from '../../src/cli/errors.js'
import { quantizeFlags } from '../../src/cli/flags/flags.js'
import {
  AbortedError,
  CheckpointError,
  GptvqError,
  NumericError,
  OptionError,
} from '../../src/common/errors.js'

const describeIn = (error: unknown, stoppedBy?: string, debug = false) =>
  describeFailure(error, 'quantize', quantizeFlags, stoppedBy, debug)

describe('what a failure says', () => {
  test('an error of the library is its message alone, without a stack', () => {
    for (const error of [new CheckpointError('a: damaged'), new NumericError('a: damaged')]) {
      expect(describeIn(error)).toEqual({ message: 'gptvq: a: damaged', exitCode: 1 })
    }
  })

  test('with GPTVQ_DEBUG the stack follows, causes included', () => {
    const error = new CheckpointError('a: damaged', { cause: new Error('the disk') })
    const { message, exitCode } = describeIn(error, undefined, true)
    expect(exitCode).toBe(1)
    expect(message.startsWith('gptvq: a: damaged\n')).toBe(true)
    expect(message).toContain('failures.test.ts')
    expect(message).toContain('caused by Error: the disk')
  })

  test('an option is spoken of as its flag, other options in the message too', () => {
    const { message, exitCode } = describeIn(new OptionError('groupSize', 'not a multiple of vectorDim (2)'))
    expect(message).toBe('gptvq: --group-size: not a multiple of --vector-dim (2)\nSee: gptvq help quantize')
    expect(exitCode).toBe(2)
  })

  test('an option that is no flag keeps its name', () => {
    expect(describeIn(new OptionError('temperature', 'too hot')).message).toContain(
      'gptvq: temperature: too hot',
    )
  })

  test('an error that nobody foresaw is called a bug and shows its stack, once', () => {
    for (const debug of [false, true]) {
      const { message, exitCode } = describeIn(new TypeError('x is not a function'), undefined, debug)
      expect(exitCode).toBe(1)
      expect(message).toContain('this is a bug in gptvq')
      expect(message.split('TypeError: x is not a function')).toHaveLength(2)
      expect(message).toContain('failures.test.ts')
    }
    expect(describeIn('a string').message).toContain('a string')
  })

  test('the system and the memory are no bugs', () => {
    const refused = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES', syscall: 'open' })
    expect(describeIn(refused)).toEqual({ message: 'gptvq: EACCES: permission denied', exitCode: 1 })
    const tooLong = describeIn(new RangeError('Invalid typed array length: 8589934592'))
    expect(tooLong.message).toMatch(/not enough memory; .*8589934592/)
    expect(describeIn(new RangeError('Array buffer allocation failed')).message).toContain(
      'not enough memory',
    )
    expect(describeIn(new RangeError('Invalid array length')).message).toContain('a bug')
  })

  test('what was added to an error is shown, in the words of flags', () => {
    const kept = 'kept for --resume (option resume): 2 of 4 blocks done'
    const system = Object.assign(new Error('EIO'), { code: 'EIO', syscall: 'write' })
    const memory = new RangeError('Array buffer allocation failed')
    for (const error of [
      system,
      memory,
      new TypeError('x is no function'),
      new OptionError('resume', 'no'),
    ]) {
      error.message += `. What was done is ${kept}`
      expect(describeIn(error).message).toContain('What was done is kept for --resume')
    }
    expect(describeIn(system).message).not.toContain('option')
    expect(describeIn(memory).message).not.toContain('option')
  })

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ])('a run stopped by %s exits with %i', (signal, exitCode) => {
    expect(describeIn(new AbortedError(), signal)).toEqual({ message: 'gptvq: stopped', exitCode })
    const halfway = new AbortedError('stopped halfway; nothing was written')
    expect(describeIn(halfway, signal).message).toBe('gptvq: stopped; nothing was written')
  })

  test('a usage error points to the help of its command, or to that of the program', () => {
    expect(describeIn(new UsageError('wrong', 'eval')).message).toBe('gptvq: wrong\nSee: gptvq help eval')
    expect(describeIn(new UsageError('wrong')).message).toBe('gptvq: wrong\nSee: gptvq --help')
  })

  test('every kind of error of the library is no bug', () => {
    expect(describeIn(new GptvqError('NEW', 'of a kind to come')).message).toBe('gptvq: of a kind to come')
  })
})
