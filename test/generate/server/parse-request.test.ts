import { describe, expect, it } from 'vitest'
import { ApiError } from '../../../src/generate/server/api-error.js'
import { parseChatRequest, parseTextRequest } from '../../../src/generate/server/parse-request.js'

const user = { role: 'user', content: 'hi' }

function failureOf(parse: () => unknown): ApiError {
  try {
    parse()
  } catch (error) {
    if (error instanceof ApiError) return error
    throw error
  }
  return expect.fail('no error')
}

describe('messages', () => {
  const messagesOf = (...messages: object[]) => parseChatRequest({ messages }).prompts[0].messages

  it('come with their names, and without the empty fields that clients send', () => {
    const answer = { role: 'assistant', content: 'a', refusal: null, annotations: [], audio: null }
    expect(messagesOf({ ...user, name: 'bob' }, { ...answer, tool_calls: [], function_call: null })).toEqual([
      { ...user, name: 'bob' },
      { role: 'assistant', content: 'a' },
    ])
  })

  it('of an assistant may have no content', () => {
    const empty = { role: 'assistant', content: '' }
    expect(messagesOf(user, { role: 'assistant', content: null }, { role: 'assistant' })).toEqual([
      user,
      empty,
      empty,
    ])
    expect(failureOf(() => messagesOf({ role: 'user', content: null })).param).toBe('messages[0].content')
  })

  it.each([
    ['tool_calls', { role: 'assistant', content: null, tool_calls: [{ id: '1', type: 'function' }] }],
    ['tool_calls', { role: 'assistant', content: '', tool_calls: [{ id: '1', type: 'function' }] }],
    ['tool_call_id', { role: 'tool', tool_call_id: '1', content: 'r' }],
    ['refusal', { role: 'assistant', content: '', refusal: 'no' }],
    ['bogus', { ...user, bogus: 1 }],
  ])('with %s are refused by its name, not read without it', (field, message) => {
    expect(failureOf(() => messagesOf(user, message))).toMatchObject({
      ...{ status: 400, param: `messages[1].${field}`, code: 'unsupported' },
      message: `messages[1].${field}: is not there; of a message the model reads role, content and name`,
    })
  })
})

describe('fields', () => {
  const parse = (own: object) => parseChatRequest({ messages: [user], ...own })

  it('that are null count as not there, known or not', () => {
    expect(parse({ reasoning_effort: null, top_p: null })).toEqual(parse({}))
    expect(failureOf(() => parse({ reasoning_effort: 'low' })).param).toBe('reasoning_effort')
  })

  it('a seed may be below 0', () => {
    expect(parse({ seed: -1 }).options.seed).toBe(2 ** 32 - 1)
    expect(parse({ seed: 7 }).options.seed).toBe(7)
  })

  it.each(['max_tokens', 'max_completion_tokens'])('%s is at least 1', (field) => {
    for (const value of [0, -1, 1.5]) {
      const message = `${field}: expected a whole number of at least 1, got ${value}`
      expect(failureOf(() => parse({ [field]: value }))).toMatchObject({ param: field, code: null, message })
    }
    expect(parse({ [field]: 3 })).toMatchObject({ options: { maxTokens: 3 }, maxTokensField: field })
  })

  it('max_completion_tokens goes before max_tokens', () => {
    const both = parse({ max_completion_tokens: 3, max_tokens: 5 })
    expect(both).toMatchObject({ options: { maxTokens: 3 }, maxTokensField: 'max_completion_tokens' })
    expect(parseTextRequest({ prompt: 'a', max_tokens: 5 }).options.maxTokens).toBe(5)
  })
})
