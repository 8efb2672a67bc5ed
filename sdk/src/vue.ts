import {
  type ComputedRef,
  computed,
  getCurrentScope,
  type MaybeRefOrGetter,
  onScopeDispose,
  shallowRef,
  toValue,
} from 'vue'
import { type ChatOptions, type ChatSnapshot, ChatStore } from './store.js'

export type { ChatOptions, ChatStatus, UIMessage } from './store.js'

export type UseStreamingChat = { [K in keyof ChatSnapshot]: ComputedRef<ChatSnapshot[K]> } & Pick<
  ChatStore,
  'sendMessage' | 'regenerate' | 'resume' | 'stop' | 'setMessages' | 'clearError'
>

/**
 * A conversation that streams. Options are read when a message is sent: pass a ref or a getter if
 * they change. The end of the component, or of the effect scope, closes the connection.
 */
export function useStreamingChat(options: MaybeRefOrGetter<ChatOptions> = {}): UseStreamingChat {
  const store = new ChatStore(() => toValue(options))
  // Shallow: a snapshot is replaced, never changed, and a long conversation is no place for proxies.
  const snapshot = shallowRef(store.getSnapshot())
  const unsubscribe = store.subscribe(() => {
    snapshot.value = store.getSnapshot()
  })
  // Outside of a scope, as in a module of its own, the conversation lives as long as the page.
  if (getCurrentScope()) {
    onScopeDispose(() => {
      store.dispose()
      unsubscribe()
    })
  }

  const { sendMessage, regenerate, resume, stop, setMessages, clearError } = store
  return {
    messages: computed(() => snapshot.value.messages),
    status: computed(() => snapshot.value.status),
    streaming: computed(() => snapshot.value.streaming),
    currentContent: computed(() => snapshot.value.currentContent),
    currentReasoning: computed(() => snapshot.value.currentReasoning),
    currentToolCalls: computed(() => snapshot.value.currentToolCalls),
    streamId: computed(() => snapshot.value.streamId),
    error: computed(() => snapshot.value.error),
    sendMessage,
    regenerate,
    resume,
    stop,
    setMessages,
    clearError,
  }
}
