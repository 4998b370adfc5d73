import { isObject } from '../../checkpoint/json-file.js'
import type { ChatMessage } from '../chat-template.js'
import { badField } from './api-error.js'

/** The messages of a chat. @throws ApiError naming the field */
export function readMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) throw badField('messages', 'expected a list of messages')
  return value.map((message, i) => readMessage(message, `messages[${i}]`))
}

function readMessage(message: unknown, place: string): ChatMessage {
  if (!isObject(message)) throw badField(place, 'expected an object')
  const { role, content, name, ...others } = message
  if (typeof role !== 'string' || role === '') throw badField(`${place}.role`, 'expected a role')
  for (const [field, value] of Object.entries(others)) {
    if (isNothing(value)) continue
    throw badField(
      `${place}.${field}`,
      'is not there; of a message the model reads role, content and name',
      'unsupported',
    )
  }
  if (!isNothing(name) && typeof name !== 'string') throw badField(`${place}.name`, 'expected a text')
  const text = role === 'assistant' && isNothing(content) ? '' : readContent(content, `${place}.content`)
  return { role, content: text, ...(typeof name === 'string' && { name }) }
}

/** What clients send for fields without a value: an answer that is sent back has `refusal: null` and `annotations: []`. */
function isNothing(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0)
}

/** Text, or a list of parts that are all text. */
function readContent(content: unknown, place: string): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) throw badField(place, 'expected a text, or a list of parts')
  return content
    .map((part, i) => {
      if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text
      throw badField(`${place}[${i}]`, 'expected a part of the type text; the model reads nothing else')
    })
    .join('')
}
