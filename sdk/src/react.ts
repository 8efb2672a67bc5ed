import { useEffect, useState, useSyncExternalStore } from 'react'
import { type Action, type ChatOptions, type ChatSnapshot, type ChatStore, chatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

export type UseStreamingChat = ChatSnapshot & Pick<ChatStore, Action>

/**
 * A conversation that streams. The functions never change while the `id` is the same, and never go stale.
 * Options are read when a message is sent, so they may change from render to render. With an `id` the
 * conversation outlives the component; without one, unmounting stops the answer under way.
 */
export function useStreamingChat(options: ChatOptions = {}): UseStreamingChat {
  const [own] = useState(() => chatStore(undefined, () => options))
  const store = options.id === undefined ? own : chatStore(options.id, () => options)
  useEffect(() => store.configure(() => options))
  return { ...useSyncExternalStore(store.attach, store.getSnapshot, store.getSnapshot), ...store.actions }
}
