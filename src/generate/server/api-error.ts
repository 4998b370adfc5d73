import { AbortedError, OptionError, TextError, UnsupportedError } from '../../common/errors.js'

/** A failure as OpenAI's interface tells it. */
export class ApiError extends Error {
  readonly status: number
  /** The field of the request, null where there is none. */
  readonly param: string | null
  /** Stable name of the failure, null for an impossible field. */
  readonly code: string | null

  constructor(
    status: number,
    message: string,
    { param = null, code = null }: { param?: string | null; code?: string | null } = {},
  ) {
    super(message)
    this.name = 'ApiError'
    this.status = status
    this.param = param
    this.code = code
  }
}

/** A field of the request is missing or has an impossible value. */
export function badField(param: string, message: string, code: string | null = null): ApiError {
  return new ApiError(400, `${param}: ${message}`, { param, code })
}

/** The body that a client gets. */
export function errorBody({ status, message, param, code }: ApiError): object {
  const type = status < 500 ? (status === 429 ? 'rate_limit_error' : 'invalid_request_error') : 'server_error'
  return { error: { message, type, param, code } }
}

const fieldOfOption: Readonly<Record<string, string>> = {
  maxTokens: 'max_tokens',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  topLogprobs: 'top_logprobs',
}

/** Tells any error in the words of the interface; what is no fault of the request is not told in detail. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error
  if (error instanceof OptionError) {
    const param = fieldOfOption[error.option] ?? error.option
    return badField(param, error.message.slice(`${error.option}: `.length))
  }
  if (error instanceof TextError) return new ApiError(400, error.message, { code: 'invalid_prompt' })
  if (error instanceof UnsupportedError) return new ApiError(400, error.message, { code: 'unsupported' })
  if (error instanceof AbortedError) {
    return new ApiError(503, 'the answer was stopped before it was complete', { code: 'stopped' })
  }
  return new ApiError(500, 'the server failed to compute the answer; its log says why', { code: 'internal' })
}
