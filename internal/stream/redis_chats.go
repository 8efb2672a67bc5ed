package stream

import (
	"context"
	"strings"

	"github.com/redis/rueidis"

	"github.com/websopy/relay/internal/redisconn"
)

// chatKey is where a chat leads to: the id of its newest stream, and " read" when a reader has its end.
func chatKey(name string) string { return "relay:chat:" + name }

const chatRead = " read"

// holdChat has g's chat lead to it, in one step with telling where it led before.
func (s *store) holdChat(ctx context.Context, g *generation) (former string, err error) {
	key := chatKey(g.chat)
	results, err := s.conn.Do(context.WithoutCancel(ctx), s.conn.Node(key), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Set().Key(key).Value(g.id).Get().PxMilliseconds(s.life().Milliseconds()).Build()}
	})
	if err != nil {
		return "", err
	}
	value, err := results[0].ToString()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	return strings.TrimSuffix(value, chatRead), err
}

// chat says where a chat leads to, with an empty id if nowhere.
func (s *store) chat(ctx context.Context, name string) (id string, read bool, err error) {
	key := chatKey(name)
	results, err := s.conn.Do(ctx, s.conn.Node(key), func(b rueidis.Builder) rueidis.Commands {
		return rueidis.Commands{b.Get().Key(key).Build()}
	})
	if err != nil {
		return "", false, err
	}
	value, err := results[0].ToString()
	if rueidis.IsRedisNil(err) {
		return "", false, nil
	}
	id, read = strings.CutSuffix(value, chatRead)
	return id, read, err
}

// readChat notes that a reader has the end of a chat's stream, unless the chat has gone on.
func (s *store) readChat(ctx context.Context, name, id string) {
	key := chatKey(name)
	s.conn.Run(ctx, s.conn.Node(key), readScript,
		redisconn.Run{Keys: []string{key}, Args: []string{id, id + chatRead}})
}
