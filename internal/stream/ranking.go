package stream

import (
	"container/heap"
	"container/list"
)

// account is what the streams of one caller take, where a caller is who shares the room with others: a
// Request's Share. Hub.mu guards it.
type account struct {
	share   string
	bytes   int64
	shelves [shelves]list.List // of *generation, the longest there first
	at      [shelves]int       // its place in Hub.rankings, from 1; 0: the shelf is empty
}

// A stream stands on one of these shelves, or on none: while it is read after its end, for example.
type shelf int

const (
	nowhere shelf = iota
	growing       // its provider runs
	read          // it has ended, and somebody has read it to its end
	unread        // it has ended, and nobody has
	emptied       // it had to give way; its idempotency key is remembered
	shelves = iota
)

// ranking has the accounts with something on one shelf, those with most bytes first. It is a heap.
type ranking struct {
	shelf    shelf
	accounts []*account
}

func (r *ranking) Len() int           { return len(r.accounts) }
func (r *ranking) Less(i, j int) bool { return r.accounts[i].bytes > r.accounts[j].bytes }
func (r *ranking) Swap(i, j int) {
	a := r.accounts
	a[i], a[j] = a[j], a[i]
	a[i].at[r.shelf], a[j].at[r.shelf] = i+1, j+1
}

func (r *ranking) Push(x any) {
	a := x.(*account)
	r.accounts = append(r.accounts, a)
	a.at[r.shelf] = len(r.accounts)
}

func (r *ranking) Pop() any {
	last := len(r.accounts) - 1
	a := r.accounts[last]
	r.accounts[last] = nil
	r.accounts = r.accounts[:last]
	a.at[r.shelf] = 0
	return a
}

// first is the account with most bytes, nil when there is none.
func (r *ranking) first() *account {
	if len(r.accounts) == 0 {
		return nil
	}
	return r.accounts[0]
}

// update puts a where it belongs.
func (r *ranking) update(a *account) {
	at, has := a.at[r.shelf]-1, a.shelves[r.shelf].Len() > 0
	switch {
	case at >= 0 && has:
		heap.Fix(r, at)
	case at >= 0:
		heap.Remove(r, at)
	case has:
		heap.Push(r, a)
	}
}
