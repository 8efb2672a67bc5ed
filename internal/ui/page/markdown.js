// Shows the Markdown that models write: paragraphs, headings, lists, quotes, code, bold and links.
// It builds elements and never HTML text: an answer cannot put a script into the page.

/** Makes an element with properties and children. */
export function h(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties)
  element.append(...children.filter((child) => child !== undefined && child !== ''))
  return element
}

/**
 * What is shown in a root: its text, the elements of its blocks, how many of them are finished, and where in the
 * text the others begin. Asking the root for its children again and again would take quadratic time.
 */
const shown = new WeakMap()

/**
 * Shows `text` in `root`. Blocks that were there before stay as they are, so that a growing answer
 * costs its last block only, and a selection in the text above survives.
 */
export function showMarkdown(root, text) {
  let { before, elements, start, finished } = shown.get(root) ?? {
    before: '',
    elements: [],
    start: 0,
    finished: 0,
  }
  if (text === before) return
  if (!text.startsWith(before)) start = finished = 0
  const sources = blocks(text.slice(start))
  for (const [i, { source }] of sources.entries()) {
    const old = elements[finished + i]
    if (old && old.source === source) continue
    const element = grown(old, source) ?? block(source)
    element.source = source
    if (!old) root.append(element)
    else if (old !== element) old.replaceWith(element)
    elements[finished + i] = element
  }
  for (const left of elements.splice(finished + sources.length)) left.remove()
  // The last block may go on, and the one before it may have been taken for its end too early.
  const safe = Math.max(0, sources.length - 2)
  if (safe) {
    start += sources[safe].at
    finished += safe
  }
  shown.set(root, { before: text, elements, start, finished })
}

/** The beginning of a list's item. */
const item = /^\s*(?:[-*+]|\d+[.)]) +/

/** Splits at blank lines, but not inside of fenced code. `at` is where in the text a block begins. */
function blocks(text) {
  const found = []
  let current = []
  let at = 0
  let fence
  let position = 0
  const close = () => {
    if (current.length) found.push({ source: current.join('\n'), at })
    current = []
  }
  const add = (line) => {
    if (!current.length) at = position
    current.push(line)
  }
  for (const line of text.split('\n')) {
    const mark = /^\s*(```|~~~)/.exec(line)?.[1]
    if (fence) {
      add(line)
      if (mark === fence) {
        fence = undefined
        close()
      }
    } else if (mark) {
      close()
      fence = mark
      add(line)
    } else if (!line.trim()) close()
    else if (/^#{1,6} /.test(line)) {
      close()
      add(line)
      close()
    } else {
      // Models begin a list right below its introduction.
      if (item.test(line) && !item.test(current[0] ?? line)) close()
      add(line)
    }
    position += line.length + 1
  }
  close()
  return found
}

const isFence = (line) => /^\s*(```|~~~)/.test(line)

/** The text of fenced code, whether or not its end has come. */
function codeOf(lines) {
  const closed = lines.length > 1 && /^\s*(```|~~~)\s*$/.test(lines.at(-1))
  return lines.slice(1, closed ? -1 : undefined).join('\n')
}

const kindOf = (lines) => {
  if (isFence(lines[0])) return 'code'
  if (/^#{1,6} /.test(lines[0])) return 'heading'
  if (lines.every((line) => line.startsWith('>'))) return 'quote'
  return item.test(lines[0]) ? 'list' : 'paragraph'
}

/** Makes the element of a block that has grown show the rest, where that is cheaper than a new one. */
function grown(element, source) {
  if (!element?.source || !source.startsWith(element.source)) return undefined
  const lines = source.split('\n')
  const kind = kindOf(lines)
  if (kind !== element.kind) return undefined
  if (kind === 'code') {
    showCode(element.firstChild, codeOf(lines))
  } else if (kind === 'list') showItems(element, itemsOf(lines))
  else if (kind === 'paragraph') showLines(element, lines)
  else return undefined
  return element
}

function block(source) {
  const lines = source.split('\n')
  const kind = kindOf(lines)
  const element = make[kind](lines)
  element.kind = kind
  return element
}

const make = {
  code: (lines) => h('pre', { tabIndex: 0 }, showCode(h('code', {}), codeOf(lines))),
  // One level for all: an answer's own levels would leave gaps in the page's outline.
  heading: ([line]) => showLines(h('h3', {}), [line.replace(/^#+ /, '')]),
  quote: (lines) =>
    showLines(
      h('blockquote', {}),
      lines.map((line) => line.replace(/^> ?/, '')),
    ),
  list: (lines) => {
    const number = /^\s*(\d{1,9})[.)]/.exec(lines[0])?.[1]
    return showItems(h(number ? 'ol' : 'ul', number ? { start: number } : {}), itemsOf(lines))
  },
  paragraph: (lines) => showLines(h('p', {}), lines),
}

/** Characters of code that are laid out together: when code grows, so much is laid out anew. */
const pieceSize = 4096

/** Shows code, long code in pieces that end with a line. */
function showCode(element, text) {
  let { shown = '', node } = element
  if (!text.startsWith(shown)) {
    element.replaceChildren()
    shown = ''
    node = undefined
  }
  let rest = text.slice(shown.length)
  while (rest) {
    if (!node) {
      node = new Text()
      element.append(node)
    }
    const cut = pieceEnd(node.data.length, rest)
    node.appendData(rest.slice(0, cut))
    rest = rest.slice(cut)
    if (!rest) break
    // The first piece needs an element only when there is a second one.
    if (node.parentNode === element) element.replaceChildren(h('span', {}, node.data))
    node = new Text()
    element.append(h('span', {}, node))
  }
  element.shown = text
  element.node = node
  return element
}

/** How much of `rest` goes into a piece that has `length` characters: all, or up to the end of a line. */
function pieceEnd(length, rest) {
  if (length + rest.length <= pieceSize) return rest.length
  const line = rest.indexOf('\n', Math.max(0, pieceSize - length))
  return line < 0 ? rest.length : line + 1
}

/** The items of a list, each as its lines. */
function itemsOf(lines) {
  const items = []
  for (const line of lines) {
    if (item.test(line)) items.push([line.replace(item, '')])
    else items.at(-1).push(line.trim())
  }
  return items
}

function showItems(list, items) {
  list.items ??= []
  // Items before the last one that was shown are finished.
  for (let i = Math.max(0, list.items.length - 1); i < items.length; i++) {
    if (!list.items[i]) {
      list.items.push(h('li', {}))
      list.append(list.items[i])
    }
    showLines(list.items[i], items[i])
  }
  return list
}

/** Shows lines in an element. Marks end with their line, so only lines that differ are shown anew. */
function showLines(element, lines) {
  const before = element.lines ?? []
  let same = 0
  while (same < before.length && same < lines.length && before[same].text === lines[same]) same++
  for (const { nodes } of before.splice(same)) for (const node of nodes) node.remove()
  for (const text of lines.slice(same)) {
    const nodes = inline(before.length ? `\n${text}` : text)
    for (const node of nodes) element.append(node)
    before.push({ text, nodes })
  }
  element.lines = before
  return element
}

/** Longer addresses are no links: nobody can see where they lead, and a page could fill the memory. */
const longestAddress = 2000

/**
 * Code, bold, emphasis and links of one line; everything else is text. Each search begins where the last one
 * ended, so that the time is linear in the length, whatever a model writes.
 */
function inline(text) {
  const nodes = []
  let end = 0
  const next = finder(text)
  const put = (from, to, node) => {
    if (from > end) nodes.push(new Text(text.slice(end, from)))
    nodes.push(node)
    end = to
  }
  const marks = /[`*[]/g
  for (let match = marks.exec(text); match; match = marks.exec(text)) {
    const found = readers[match[0]](text, match.index, next)
    if (!found) continue
    put(match.index, found.end, found.node)
    marks.lastIndex = end
  }
  if (end < text.length) nodes.push(new Text(text.slice(end)))
  return nodes
}

/** Finds characters behind a position, and remembers where: a text without any is searched once. */
function finder(text) {
  const last = {}
  return (pattern, from) => {
    const known = last[pattern]
    if (known !== undefined && known >= from) return known
    const search = new RegExp(pattern, 'g')
    search.lastIndex = from
    last[pattern] = search.exec(text)?.index ?? Number.POSITIVE_INFINITY
    return last[pattern]
  }
}

const readers = {
  '`': (text, at, next) => {
    const end = next('`', at + 1)
    if (end === Number.POSITIVE_INFINITY || end === at + 1) return undefined
    return { node: h('code', {}, text.slice(at + 1, end)), end: end + 1 }
  },
  '*': (text, at, next) => {
    const width = text[at + 1] === '*' ? 2 : 1
    const end = next('\\*', at + width)
    const inner = text.slice(at + width, end)
    const closed = text.startsWith('*'.repeat(width), end)
    if (end === Number.POSITIVE_INFINITY || !closed || !inner || inner.trim() !== inner) return undefined
    return { node: h(width === 2 ? 'strong' : 'em', {}, inner), end: end + width }
  },
  '[': (text, at, next) => {
    const labelEnd = next(']', at + 1)
    if (labelEnd === at + 1 || labelEnd > at + 301 || text[labelEnd + 1] !== '(') return undefined
    const start = labelEnd + 2
    const end = next('[\\s)]', start)
    if (text[end] !== ')' || end - start > longestAddress) return undefined
    const href = text.slice(start, end)
    if (!/^https?:\/\/./.test(href)) return undefined
    const properties = { href, rel: 'noopener noreferrer', target: '_blank' }
    return { node: h('a', properties, text.slice(at + 1, labelEnd)), end: end + 1 }
  },
}
