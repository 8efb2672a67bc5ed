package handler

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/websopy/relay/internal/chat"
	"github.com/websopy/relay/internal/upstream"
)

// modelObject is a model as OpenAI's API lists it, and Anthropic's: neither's clients mind what is the other's. When
// it was made is not known.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`

	Type        string    `json:"type"`
	DisplayName string    `json:"display_name"`
	CreatedAt   time.Time `json:"created_at"`
}

func objectOf(m upstream.Model) modelObject {
	return modelObject{
		ID: m.ID, Object: "model", OwnedBy: m.OwnedBy,
		Type: "model", DisplayName: m.ID, CreatedAt: time.Unix(0, 0).UTC(),
	}
}

// modelLabel is what metrics call a model: a name that is configured, or else one for all others.
func (r *Relay) modelLabel(asked string) string {
	for _, m := range r.router.Models() {
		if asked == m.ID || asked == "" { // the first answers requests that name none
			return m.ID
		}
	}
	if asked == "" {
		return "default"
	}
	return "other"
}

// listModels answers with the models whose exact names are known: a list of OpenAI's, and a whole page of Anthropic's.
func (r *Relay) listModels(w http.ResponseWriter, req *http.Request) {
	models := r.router.Models()
	list := struct {
		Object  string        `json:"object"`
		Data    []modelObject `json:"data"`
		HasMore bool          `json:"has_more"`
		FirstID *string       `json:"first_id"`
		LastID  *string       `json:"last_id"`
	}{Object: "list", Data: make([]modelObject, 0, len(models))}
	for _, m := range models {
		list.Data = append(list.Data, objectOf(m))
	}
	if n := len(list.Data); n > 0 {
		list.FirstID, list.LastID = &list.Data[0].ID, &list.Data[n-1].ID
	}
	r.json(w, req, list)
}

var errNoModel = &chat.Error{Code: chat.ModelNotFound, Message: "there is no model of this name"}

// oneModel answers with one of them. Names have slashes, plain or as %2F.
func (r *Relay) oneModel(w http.ResponseWriter, req *http.Request) {
	id, err := url.PathUnescape(chi.URLParam(req, "*"))
	if err != nil {
		id = "" // no model's
	}
	for _, m := range r.router.Models() {
		if m.ID == id {
			r.json(w, req, objectOf(m))
			return
		}
	}
	r.fail(w, req, errNoModel)
}

func (r *Relay) json(w http.ResponseWriter, req *http.Request, v any) {
	body, err := json.Marshal(v)
	if err != nil { // there is nothing in it that can't be
		r.fail(w, req, chat.AsError(err))
		return
	}
	r.body(w, req, http.StatusOK, "application/json; charset=utf-8", append(body, '\n'))
}
