import { once } from 'node:events'
import { createServer } from 'node:http'

/**
 * A provider that speaks OpenAI's format. What it says to a question, and when, the test decides; until then it is
 * silent.
 */
export async function startProvider() {
  const questions = new Map()
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const piece of request) body += piece
    questions.get(JSON.parse(body).messages.at(-1).content)?.take(response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  let last = 0
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    question() {
      const question = new Question(`question ${++last}`)
      questions.set(question.content, question)
      return question
    },
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}

class Question {
  times = 0
  #response
  #asked = resolvers()
  #left = resolvers()

  constructor(content) {
    this.content = content
  }

  get messages() {
    return [{ role: 'user', content: this.content }]
  }

  /** Resolves when the relay has asked. */
  get asked() {
    return this.#asked.promise
  }

  /** Resolves when the relay has left before the answer was complete. */
  get left() {
    return this.#left.promise
  }

  take(response) {
    this.times++
    this.#response = response
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    response.on('close', () => response.writableEnded || this.#left.resolve())
    this.#asked.resolve()
  }

  say(content) {
    this.#send({ delta: { content } })
  }

  end() {
    this.#send({ delta: {}, finish_reason: 'stop' })
    this.#response.end('data: [DONE]\n\n')
  }

  #send(choice) {
    this.#response.write(`data: ${JSON.stringify({ choices: [{ index: 0, ...choice }] })}\n\n`)
  }
}

function resolvers() {
  let resolve
  const promise = new Promise((r) => {
    resolve = r
  })
  return { promise, resolve }
}
