// One answer in the conversation: thinking, tool calls, text, and how it came.

import { h, showMarkdown } from './markdown.js'

/** Counts what arrives of one answer. Times are in milliseconds. */
export class Meter {
  #asked = performance.now()
  #first
  #last
  #chunks = 0

  count() {
    this.#last = performance.now()
    this.#first ??= this.#last
    this.#chunks++
  }

  read(words) {
    if (this.#first === undefined) return []
    const seconds = (this.#last - this.#first) / 1000
    const rate = seconds > 0.2 ? Math.round(this.#chunks / seconds) : undefined
    return [words.firstChunk(duration(this.#first - this.#asked)), words.chunks(this.#chunks, rate)]
  }
}

const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`)

/** The element of an answer; `update` shows the answer as it is now. */
export class AnswerView {
  #words
  #thinking
  #thoughts = h('div', { className: 'thoughts' })
  #tools = h('div', { className: 'tools' })
  #text = h('div', { className: 'text' })
  #waiting
  #facts = h('p', { className: 'facts' })
  #shownTools = 0

  /** `meter` is absent for an answer that came before this page was loaded. */
  constructor(words, meter) {
    this.#words = words
    this.meter = meter
    this.#thinking = h(
      'details',
      { className: 'thinking', hidden: true },
      h('summary', {}, words.thinking),
      this.#thoughts,
    )
    this.#waiting = h(
      'p',
      { className: 'waiting', hidden: true },
      h('span', { className: 'hidden' }, words.waiting),
      ...dots(),
    )
    this.element = h(
      'li',
      { className: 'answer' },
      h('h2', { className: 'hidden' }, words.assistant),
      this.#thinking,
      this.#text,
      this.#tools,
      this.#waiting,
      this.#facts,
    )
  }

  /** Shows an answer under way. */
  progress({ currentContent, currentReasoning, currentToolCalls }) {
    this.#show(currentContent, currentReasoning, currentToolCalls)
    this.#waiting.hidden = Boolean(currentContent || currentReasoning || currentToolCalls.length)
    this.element.classList.toggle('growing', !this.#waiting.hidden || Boolean(currentContent))
    this.#facts.replaceChildren(...separated(this.meter?.read(this.#words) ?? []))
  }

  /** Shows a kept answer. `again` asks for another one in its place. */
  finish({ content, reasoning = '', toolCalls = [], finishReason, interrupted, usage, model }, again) {
    const words = this.#words
    this.#show(content, reasoning, toolCalls)
    this.#waiting.hidden = true
    this.element.classList.remove('growing')
    const mark = interrupted
      ? words.brokenOff
      : { stopped: words.stopped, length: words.cutByLength, content_filter: words.filtered }[finishReason]
    const facts = [
      mark && h('strong', {}, mark),
      ...(this.meter?.read(words) ?? []),
      usage && words.tokens(usage.promptTokens, usage.completionTokens),
      model,
    ]
    this.#facts.replaceChildren(
      ...separated(facts.filter(Boolean)),
      h('span', { className: 'actions' }, this.#copy(content), again),
    )
  }

  #show(content, reasoning, toolCalls) {
    // Open while there is nothing else to read; after that it is the reader's to open and close.
    if (this.#thinking.hidden && reasoning) this.#thinking.open = true
    if (content && !this.#text.hasChildNodes()) this.#thinking.open = false
    this.#thinking.hidden = !reasoning
    this.#thoughts.textContent = reasoning
    showMarkdown(this.#text, content)
    for (const { name, arguments: json } of toolCalls.slice(this.#shownTools)) {
      this.#tools.append(
        h(
          'figure',
          {},
          h('figcaption', {}, `${this.#words.tool} `, h('code', {}, name)),
          h('pre', { tabIndex: 0 }, pretty(json)),
        ),
      )
    }
    this.#shownTools = toolCalls.length
  }

  /** Absent where the browser gives pages no clipboard, as it does without TLS. */
  #copy(text) {
    if (!navigator.clipboard || !text) return undefined
    const button = h('button', { type: 'button' }, this.#words.copy)
    button.onclick = async () => {
      await navigator.clipboard.writeText(text)
      button.textContent = this.#words.copied
    }
    return button
  }
}

const dots = () => [1, 2, 3].map(() => h('i', { ariaHidden: 'true' }))

const separated = (facts) => facts.map((fact) => h('span', {}, fact))

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2)
  } catch {
    return json
  }
}
