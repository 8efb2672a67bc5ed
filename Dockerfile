# syntax=docker/dockerfile:1
FROM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /relay ./cmd/relay

# Nothing but the binary and the certificate authorities, so nothing else to keep patched.
FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="relay" \
      org.opencontainers.image.description="Streams chat answers from any LLM provider to browsers" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/websopy/relay" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /relay /relay
USER 65532:65532
EXPOSE 8080 9090
# Inside a container, loopback would hide the metrics from whoever scrapes them. Profiles need RELAY_PPROF=true there.
ENV RELAY_ADMIN_ADDR=:9090
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["/relay", "healthcheck"]
ENTRYPOINT ["/relay"]
