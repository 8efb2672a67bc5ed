// The demo chat: the SDK's store, shown with the DOM alone.

import { AnswerView, Meter } from './answer.js'
import { h } from './markdown.js'
import { ChatStore, WebsopyClient } from './sdk.js'
import { languages, preferredLanguage, translate } from './words.js'

const byId = (id) => document.getElementById(id)
const [
  model,
  conversation,
  welcome,
  samples,
  problem,
  announcement,
  reconnecting,
  composer,
  question,
  send,
  stop,
  latest,
  access,
  key,
] = [
  'model',
  'conversation',
  'welcome',
  'samples',
  'problem',
  'announcement',
  'reconnecting',
  'composer',
  'question',
  'send',
  'stop',
  'latest',
  'access',
  'key',
].map(byId)

// What a reload must not lose lives as long as the tab.
const saved = JSON.parse(sessionStorage.getItem('chat') ?? '{}')

const client = new WebsopyClient({ baseURL: '', apiKey: () => sessionStorage.getItem('key') ?? undefined })
const store = new ChatStore(() => ({
  client,
  model: model.value || undefined,
  initialMessages: saved.messages,
  onChunk: () => current?.meter.count(),
}))

let language = preferredLanguage()
let words = languages[language]
/** The view of each kept message. */
let views = new Map()
/** The view of the answer under way. */
let current

function ask(start) {
  current = new AnswerView(words, new Meter())
  void start()
}

function show() {
  const snapshot = store.getSnapshot()
  const { messages, streaming, status, error } = snapshot
  const follow = atEnd()

  if (!streaming && current) {
    // The element stays: nothing jumps, and a selection in the text survives.
    const last = messages.at(-1)
    if (last?.role === 'assistant' && !views.has(last)) views.set(last, current)
    announcement.textContent = last?.role === 'assistant' ? words.answered(last.content) : ''
    current = undefined
  } else if (status === 'streaming' && !announcement.textContent) announcement.textContent = words.answering
  else if (status === 'submitted') announcement.textContent = ''

  // A failure has its own button to ask again.
  const items = messages.map((message, i) =>
    itemOf(message, i === messages.length - 1 && !streaming && !error),
  )
  if (streaming) {
    current ??= new AnswerView(words, new Meter())
    current.progress(snapshot)
    items.push(current.element)
  }
  arrange(conversation, items)
  welcome.hidden = items.length > 0
  send.hidden = streaming
  stop.hidden = !streaming
  reconnecting.hidden = status !== 'reconnecting'
  showProblem(error, !streaming && messages.at(-1)?.role === 'user')
  save(snapshot)
  if (follow) toEnd()
  latest.hidden = atEnd()
}

function itemOf(message, repeatable) {
  let view = views.get(message)
  if (message.role !== 'assistant') {
    view ??= {
      element: h(
        'li',
        { className: 'question' },
        h('h2', { className: 'hidden' }, words.you),
        h('p', {}, message.content),
      ),
    }
  } else {
    view ??= new AnswerView(words)
    if (view.repeatable !== repeatable)
      view.finish(message, repeatable ? button(words.again, store.regenerate) : undefined)
    view.repeatable = repeatable
  }
  views.set(message, view)
  return view.element
}

/** Gives `parent` these children, and touches only what differs. */
function arrange(parent, children) {
  children.forEach((child, i) => {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null)
  })
  while (parent.children.length > children.length) parent.lastElementChild.remove()
}

function button(label, start) {
  const element = h('button', { type: 'button' }, label)
  element.onclick = () => ask(start)
  return element
}

let shownProblem
function showProblem(error, unanswered) {
  const shown = error ?? unanswered
  if (shown === shownProblem) return
  shownProblem = shown
  problem.replaceChildren()
  problem.className = error ? 'failed' : ''
  if (!shown) return
  const text = error ? (words.errors[error.code] ?? error.message) : words.unanswered
  problem.append(h('p', {}, text), button(words.retry, store.regenerate))
  if (error?.requestId) problem.append(h('small', {}, words.request(error.requestId)))
  if (error?.code === 'unauthorized') {
    access.open = true
    key.focus()
  }
}

/** What the relay says can be asked for; until it does, its default model. */
let models = []
async function loadModels() {
  try {
    const key = sessionStorage.getItem('key')
    const headers = key ? { Authorization: `Bearer ${key}` } : {}
    const response = await fetch('/v1/models', { headers })
    if (response.ok) models = (await response.json()).data
  } catch {
    // The default model can be asked all the same.
  }
  speak()
}

let savedState = []
function save({ messages, streamId }) {
  const state = [messages, streamId, model.value]
  if (state.every((part, i) => part === savedState[i])) return
  savedState = state
  try {
    sessionStorage.setItem('chat', JSON.stringify({ messages, streamId, model: model.value }))
  } catch {
    // The conversation has outgrown the storage: it is lost on a reload, and only then.
  }
}

const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 60
const toEnd = () => scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })

function speak() {
  words = translate(language)
  const demo = models.some(({ owned_by }) => owned_by === 'demo')
  const option = ({ id, owned_by }) => {
    const about = owned_by === 'demo' ? words.models[id] : undefined
    return h('option', { value: id }, about ? `${id} · ${about}` : id)
  }
  const wanted = model.value || saved.model || ''
  const group = demo
    ? [h('optgroup', { label: words.demoModels }, ...models.map(option))]
    : models.map(option)
  model.replaceChildren(h('option', { value: '' }, words.defaultModel), ...group)
  model.value = models.some(({ id }) => id === wanted) ? wanted : ''
  byId('language').textContent = words.otherLanguage
  byId('language').lang = language === 'zh' ? 'en' : 'zh'
  samples.replaceChildren(
    ...(demo ? words.samples : words.questions.map((text) => ['', text])).map(([name, text]) => {
      const about = name && h('small', {}, words.models[name])
      const sample = h('button', { type: 'button' }, h('span', {}, text), about)
      sample.onclick = () => {
        if (name) model.value = name
        ask(() => store.sendMessage(text))
      }
      return h('li', {}, sample)
    }),
  )
  // Other words need other elements; what was counted stays.
  views = new Map([...views].map(([message, { meter }]) => [message, meter && new AnswerView(words, meter)]))
  current &&= new AnswerView(words, current.meter)
  shownProblem = undefined
  show()
}

composer.onsubmit = (event) => {
  event.preventDefault()
  if (!question.value.trim() || store.getSnapshot().streaming) return
  const text = question.value
  question.value = ''
  toEnd()
  ask(() => store.sendMessage(text))
}
question.onkeydown = (event) => {
  // While an input method composes, Enter chooses a character. Safari says so by the key code only.
  const composing = event.isComposing || event.keyCode === 229
  if (event.key !== 'Enter' || event.shiftKey || composing) return
  event.preventDefault()
  composer.requestSubmit()
}
stop.onclick = () => {
  store.stop()
  question.focus()
}
document.onkeydown = (event) => {
  if (event.key === 'Escape') store.stop()
}
latest.onclick = toEnd
document.onscroll = () => {
  latest.hidden = atEnd()
}
model.onchange = () => save(store.getSnapshot())
byId('new').onclick = () => {
  store.setMessages([])
  store.clearError()
  question.focus()
}
byId('language').onclick = () => {
  language = language === 'zh' ? 'en' : 'zh'
  localStorage.setItem('language', language)
  speak()
}
key.value = sessionStorage.getItem('key') ?? ''
byId('access-form').onsubmit = (event) => {
  event.preventDefault()
  if (key.value) sessionStorage.setItem('key', key.value)
  else sessionStorage.removeItem('key')
  access.open = false
  store.clearError()
  question.focus()
  void loadModels()
}

speak()
void loadModels()
store.subscribe(show)
if (saved.streamId) ask(() => store.resume(saved.streamId))
else question.focus()
