import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from 'react'
import { type ChatOptions, type ChatSnapshot, ChatStore, chatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

export type UseStreamingChat = ChatSnapshot &
  Pick<ChatStore, 'sendMessage' | 'regenerate' | 'resume' | 'stop' | 'setMessages' | 'clearError'>

/**
 * A conversation that streams. The functions never change while the `id` is the same, and never go stale.
 * Options are read when a message is sent, so they may change from render to render. With an `id` the
 * conversation outlives the component; without one, unmounting stops the answer under way.
 */
export function useStreamingChat(options: ChatOptions = {}): UseStreamingChat {
  const latest = useRef(options)
  const read = useCallback(() => latest.current, [])
  const [own] = useState(() => new ChatStore(read))
  const store = options.id === undefined ? own : chatStore(options.id, () => options)
  useEffect(() => {
    latest.current = options
  })
  useEffect(() => store.attach(read), [store, read])

  const snapshot = useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot)
  const { subscribe, getSnapshot, dispose, ...actions } = store
  return { ...snapshot, ...actions }
}
