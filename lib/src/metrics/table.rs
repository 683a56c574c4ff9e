//! The table of metrics. A new one is a line here, and nothing else.

use super::{Kind, Scope, Unit};

/// Declares [`Metric`] and what there is to know of each variant. What is kept of clusters, backends or both, too, has
/// their names behind its help.
macro_rules! metrics {
    ($($variant:ident $name:literal $kind:ident $unit:ident $help:literal $([$($scope:ident)+])?)+) => {
        /// A number that a worker keeps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Metric {
            $(#[doc = $help] $variant,)+
        }

        impl Metric {
            /// Every metric, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// How many metrics there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name it goes by outside.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Whether it counts, tells a level or times.
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }

            /// What it counts.
            pub const fn unit(self) -> Unit {
                match self { $(Self::$variant => Unit::$unit,)+ }
            }

            /// A sentence for those who read it.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }

            /// What it is kept of besides the proxy as a whole.
            pub const fn scopes(self) -> &'static [Scope] {
                match self { $(Self::$variant => &[$($(Scope::$scope),+)?],)+ }
            }
        }
    };
}

metrics! {
    // Clients.
    ClientConnections "client.connections" Gauge Connections "Client connections that are open."
    ClientConnectionsMax "client.connections_max" Gauge Connections "The most client connections that may be open."
    ClientConnectionsPercent "client.connections_percent" Gauge Items "Client connections that are open, of a hundred that may be: of the worker with the most."
    ListenerAcceptedTotal "listener.accepted.total" Count Connections "Client connections accepted, on all listeners."
    ListenerAcceptedHttp "listener.accepted.http" Count Connections "Client connections accepted on HTTP listeners."
    ListenerAcceptedHttps "listener.accepted.https" Count Connections "Client connections accepted on HTTPS listeners."
    ListenerAcceptedTcp "listener.accepted.tcp" Count Connections "Client connections accepted on TCP listeners."
    ListenerConnectionCapped "listener.connection_capped" Count Connections "Client connections turned away at a limit."
    ListenerConnectionNoBuffer "listener.connection_no_buffer" Count Connections "Client connections turned away because no buffer was left."
    AcceptErrors "accept.errors" Count Events "Times that accepting failed for want of descriptors or memory."

    // Limits over all workers.
    RejectedPerClusterIp "connections.rejected_per_cluster_ip" Count Connections "Client connections refused by a cluster because their address had as many as it may." [Cluster]
    RejectedPerClusterSubnet "connections.rejected_per_cluster_subnet" Count Connections "Client connections refused by a cluster because their network had as many as it may." [Cluster]
    ListenerOverConnections "listener.over_connections" Count Connections "Client connections refused because their listener had as many as it may (max_connections of a listener)."
    ListenerOverSource "listener.over_source" Count Connections "Client connections refused because their address had as many to the listener as it may (max_connections_per_source)."
    ListenerAcceptsHeld "listener.accepts_held" Count Events "Times that a listener left connections in the kernel's queue for a while (max_accept_rate)."
    RateLimitedByListener "rate_limit.listener" Count Requests "Requests, and connections of TCP listeners, refused by a rate limit of their listener."
    RateLimitedByCluster "rate_limit.cluster" Count Requests "Requests, and connections of TCP listeners, refused by a rate limit of their cluster." [Cluster]
    SessionsEvicted "sessions.evicted" Count Connections "Idle client connections closed to make room for new ones (evict_on_queue_full)."
    LimitsUncounted "limits.uncounted" Count Connections "Client connections and requests admitted and not counted for a limit, for want of room (max_limit_entries)."
    ClusterInFlight "cluster.in_flight" Gauge Requests "Requests and TCP connections that count for their cluster's max_connections."
    BackendInFlight "backend.in_flight" Gauge Requests "Requests and TCP connections that count for their backend's max_connections."
    QueueSize "queue.size" Gauge Requests "Requests and TCP connections that wait until their cluster has room."
    QueueServed "queue.served" Count Requests "Requests and TCP connections that had to wait, and then had their turn." [Cluster]
    QueueFull "queue.full" Count Requests "Requests and TCP connections refused because their cluster was full, and so was its queue (max_queue)." [Cluster]
    QueueTimeouts "queue.timeouts" Count Requests "Requests and TCP connections refused because they had waited for too long (queue_timeout_ms)." [Cluster]
    QueueEvicted "queue.evicted" Count Requests "Requests refused while they waited, because their buffers were needed (max_buffers)." [Cluster]
    QueueAbandoned "queue.abandoned" Count Requests "Requests and TCP connections whose client left while they waited." [Cluster]

    // The PROXY protocol.
    ProtocolProxyExpect "protocol.proxy.expect" Gauge Connections "Client connections whose PROXY header has not come yet."
    ProtocolProxySend "protocol.proxy.send" Count Connections "Connections to backends that began with a PROXY header of ours."
    ProxyProtocolErrors "proxy_protocol.errors" Count Connections "Client connections closed because their PROXY header was malformed, cut or late."

    // TLS.
    ProtocolTlsHandshake "protocol.tls.handshake" Gauge Connections "Handshakes of clients that are under way."
    TlsHandshakesDone "tls.handshakes.done" Count Connections "Handshakes of clients that were completed."
    TlsHandshakesResumed "tls.handshakes.resumed" Count Connections "Handshakes of clients that went on from an earlier connection."
    TlsHandshakesCapped "tls.handshakes.capped" Count Connections "Client connections turned away because as many handshakes as may be were under way."
    TlsHandshakesCappedBySource "tls.handshakes.capped_by_source" Count Connections "Client connections turned away because as many handshakes as may be were under way from their address."
    TlsHandshakeTimeouts "tls.handshake.failed.timeout" Count Connections "Handshakes of clients that took too long."
    TlsFailedAlertReceived "tls.handshake.failed.alert_received" Count Connections "Handshakes of clients that failed because the client sent an alert."
    TlsFailedDecryptError "tls.handshake.failed.decrypt_error" Count Connections "Handshakes of clients that failed because something could not be decrypted."
    TlsFailedInappropriateHandshakeMessage "tls.handshake.failed.inappropriate_handshake_message" Count Connections "Handshakes of clients that failed because a handshake message came that was not awaited."
    TlsFailedInappropriateMessage "tls.handshake.failed.inappropriate_message" Count Connections "Handshakes of clients that failed because a record of a kind came that was not awaited."
    TlsFailedInvalidCertificate "tls.handshake.failed.invalid_certificate" Count Connections "Handshakes of clients that failed because the client's certificate is not good, or revoked."
    TlsFailedInvalidMessage "tls.handshake.failed.invalid_message" Count Connections "Handshakes of clients that failed because a message could not be read."
    TlsFailedNoAlpn "tls.handshake.failed.no_alpn" Count Connections "Handshakes of clients that failed because no application protocol is in common."
    TlsFailedNoCertificatesPresented "tls.handshake.failed.no_certificates_present" Count Connections "Handshakes of clients that failed because the client must show a certificate and has none."
    TlsFailedOversizedRecord "tls.handshake.failed.oversized_record" Count Connections "Handshakes of clients that failed because a record or message is longer than any may be."
    TlsFailedPeerIncompatible "tls.handshake.failed.peer_incompatible" Count Connections "Handshakes of clients that failed because version, suite, group or signature are not in common."
    TlsFailedPeerMisbehaved "tls.handshake.failed.peer_misbehaved" Count Connections "Handshakes of clients that failed because the client broke the protocol."
    TlsFailedNoCertificate "tls.handshake.failed.no_certificate" Count Connections "Handshakes of clients that failed because there is no certificate for the client's name."
    TlsFailedClosed "tls.handshake.failed.closed" Count Connections "Handshakes of clients that failed because the client left."
    TlsFailedOther "tls.handshake.failed.other" Count Connections "Handshakes of clients that failed because of anything else."
    TlsCipher13Aes128 "tls.cipher.TLS13_AES_128_GCM_SHA256" Count Connections "Handshakes of clients that led to TLS13_AES_128_GCM_SHA256."
    TlsCipher13Aes256 "tls.cipher.TLS13_AES_256_GCM_SHA384" Count Connections "Handshakes of clients that led to TLS13_AES_256_GCM_SHA384."
    TlsCipher13Chacha20 "tls.cipher.TLS13_CHACHA20_POLY1305_SHA256" Count Connections "Handshakes of clients that led to TLS13_CHACHA20_POLY1305_SHA256."
    TlsCipherEcdsaAes128 "tls.cipher.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" Count Connections "Handshakes of clients that led to TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256."
    TlsCipherEcdsaAes256 "tls.cipher.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" Count Connections "Handshakes of clients that led to TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384."
    TlsCipherEcdsaChacha20 "tls.cipher.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" Count Connections "Handshakes of clients that led to TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256."
    TlsCipherRsaAes128 "tls.cipher.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" Count Connections "Handshakes of clients that led to TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256."
    TlsCipherRsaAes256 "tls.cipher.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" Count Connections "Handshakes of clients that led to TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384."
    TlsCipherRsaChacha20 "tls.cipher.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" Count Connections "Handshakes of clients that led to TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256."
    TlsCipherUnsupported "tls.cipher.Unsupported" Count Connections "Handshakes of clients that led to a suite without a series of its own."
    TlsVersion12 "tls.version.TLSv1_2" Count Connections "Handshakes of clients that led to TLS 1.2."
    TlsVersion13 "tls.version.TLSv1_3" Count Connections "Handshakes of clients that led to TLS 1.3."
    TlsHandshakeTime "tls.handshake_ms" Time Milliseconds "From the accept of a client connection to the end of its handshake."
    HttpAlpnHttp11 "http.alpn.http11" Count Connections "Client connections over TLS that speak HTTP/1.1: agreed on, or for want of another word."
    TlsDefaultCertUsed "tls.default_cert_used" Count Connections "Clients that were shown the listener's default certificate."
    TlsEarlyTaken "tls.early_data.accepted" Count Connections "Handshakes of clients before whose end early data was taken."
    TlsEarlyRefused "tls.early_data.rejected" Count Connections "Handshakes of clients that offered early data of which none was taken."
    TlsEarlyRequests "tls.early_data.requests" Count Requests "Requests that were begun before the handshake with their client was over."
    TlsEarlyDelayed "tls.early_data.delayed" Count Requests "Requests in early data that had to wait for the end of the handshake."
    TlsSessionsStored "tls.sessions.stored" Count Items "Sessions kept for listeners with early data."
    TlsSessionsEvicted "tls.sessions.evicted" Count Items "Sessions that made room for others before their time (max_early_data_sessions)."
    TlsSessionsRefused "tls.sessions.refused" Count Items "Sessions that were not kept: too long, or there were no ticket keys."
    TlsBroken "tls.records.violations" Count Connections "Established connections of clients ended because of what their records were."
    TlsRecordBuffers "tls.record_buffers" Gauge Buffers "Buffers that hold a part of a TLS record."
    TlsRecordsEvicted "tls.records.evicted" Count Connections "Connections cut that held a part of a TLS record, because its buffer was needed."

    // Access logs.
    AccessLogsCount "access_logs.count" Count Items "Records taken for the access log."
    LogsDropped "logs.dropped" Count Items "Lines of the error log that were lost: more than max_log_rate, or the target did not take them."
    AccessLogsDropped "access_logs.dropped" Count Items "Records of the access log that were lost: there was no room for them (access_log_buffer), or the target refused them."

    // Requests.
    Requests "requests" Count Requests "Requests whose head was read." [Cluster Backend]
    HttpRequests "http.requests" Count Requests "HTTP requests whose head was read."
    HttpActiveRequests "http.active_requests" Gauge Requests "HTTP requests in flight."
    HttpErrors "http.errors" Count Requests "Requests that ended in an error of either side." [Cluster]
    HttpFrontendParseErrors "http.frontend_parse_errors" Count Requests "Requests that could not be parsed."
    HttpBackendParseErrors "http.backend_parse_errors" Count Requests "Responses that could not be parsed."
    HttpFrontContentLength "http.frontend.content_length_invalid" Count Requests "Requests refused for their Content-Length: malformed, or more than one."
    HttpFrontSmuggling "http.frontend.transfer_encoding_smuggling" Count Requests "Requests refused because parsers might disagree on where they end: Transfer-Encoding in odd company."
    HttpBackContentLength "http.backend.content_length_invalid" Count Requests "Responses refused for their Content-Length: malformed, or more than one."
    HttpSniAuthorityMismatch "http.sni_authority_mismatch" Count Requests "Requests for a host that the connection's certificate is not for (strict_sni_binding)."
    HttpRequestIdGenerated "http.x_request_id.generated" Count Requests "Requests that were given an X-Request-Id."
    HttpRequestIdPropagated "http.x_request_id.propagated" Count Requests "Requests that came with an X-Request-Id."
    HttpFailedBackendMatching "http.failed_backend_matching" Count Requests "Requests with a route and no backend to take them." [Cluster]
    HttpCloseRequestIncomplete "http.close.request_incomplete" Count Requests "Client connections closed within a request."

    // Responses that went to clients, whoever made them.
    HttpStatus1xx "http.status.1xx" Count Requests "Informational responses sent to clients." [Cluster Backend]
    HttpStatus2xx "http.status.2xx" Count Requests "Successful responses sent to clients." [Cluster Backend]
    HttpStatus3xx "http.status.3xx" Count Requests "Redirecting responses sent to clients." [Cluster Backend]
    HttpStatus4xx "http.status.4xx" Count Requests "Responses that blame the client." [Cluster Backend]
    HttpStatus5xx "http.status.5xx" Count Requests "Responses that blame the server." [Cluster Backend]
    HttpStatusOther "http.status.other" Count Requests "Responses with a status of no known class." [Cluster Backend]
    HttpStatus200 "http.status.200" Count Requests "Responses with status 200."
    HttpStatus201 "http.status.201" Count Requests "Responses with status 201."
    HttpStatus204 "http.status.204" Count Requests "Responses with status 204."
    HttpStatus301 "http.status.301" Count Requests "Responses with status 301."
    HttpStatus302 "http.status.302" Count Requests "Responses with status 302."
    HttpStatus304 "http.status.304" Count Requests "Responses with status 304."
    HttpStatus400 "http.status.400" Count Requests "Responses with status 400."
    HttpStatus401 "http.status.401" Count Requests "Responses with status 401."
    HttpStatus403 "http.status.403" Count Requests "Responses with status 403."
    HttpStatus404 "http.status.404" Count Requests "Responses with status 404."
    HttpStatus408 "http.status.408" Count Requests "Responses with status 408."
    HttpStatus413 "http.status.413" Count Requests "Responses with status 413."
    HttpStatus429 "http.status.429" Count Requests "Responses with status 429."
    HttpStatus500 "http.status.500" Count Requests "Responses with status 500."
    HttpStatus502 "http.status.502" Count Requests "Responses with status 502."
    HttpStatus503 "http.status.503" Count Requests "Responses with status 503."
    HttpStatus504 "http.status.504" Count Requests "Responses with status 504."
    HttpStatus507 "http.status.507" Count Requests "Responses with status 507."

    // Answers of our own.
    Http301Redirection "http.301.redirection" Count Requests "Requests answered 301 by us: moved."
    Http302Redirection "http.302.redirection" Count Requests "Requests answered 302 by us: found elsewhere."
    Http308Redirection "http.308.redirection" Count Requests "Requests answered 308 by us: moved."
    HttpSilentCloses "http.silent_closes" Count Requests "Requests closed without an answer, as their frontend says."
    Http400Errors "http.400.errors" Count Requests "Requests answered 400 by us: malformed."
    Http401Errors "http.401.errors" Count Requests "Requests answered 401 by us: denied."
    Http404Errors "http.404.errors" Count Requests "Requests answered 404 by us: no route."
    Http408Errors "http.408.errors" Count Requests "Requests answered 408 by us: too slow."
    Http413Errors "http.413.errors" Count Requests "Requests answered 413 by us: too large."
    Http414Errors "http.414.errors" Count Requests "Requests answered 414 by us: request line too long."
    Http421Errors "http.421.errors" Count Requests "Requests answered 421 by us: not a host of the connection's certificate."
    Http431Errors "http.431.errors" Count Requests "Requests answered 431 by us: head too large."
    Http501Errors "http.501.errors" Count Requests "Requests answered 501 by us: coding not known."
    Http502Errors "http.502.errors" Count Requests "Requests answered 502 by us: response unusable."
    Http503Errors "http.503.errors" Count Requests "Requests answered 503 by us: no backend."
    Http504Errors "http.504.errors" Count Requests "Requests answered 504 by us: backend too slow."
    Http505Errors "http.505.errors" Count Requests "Requests answered 505 by us: version not known."
    Http507Errors "http.507.errors" Count Requests "Requests answered 507 by us: response head too large."

    // Backends.
    BackendConnections "backend.connections" Gauge Connections "Connections to backends that are open."
    BackendConnectionsError "backend.connections.error" Count Connections "Connections to backends that failed to open." [Cluster Backend]
    BackendConnectTimeouts "backend.connect.timeouts" Count Connections "Connections to backends that took too long to open."
    BackendConnectRetriesExhausted "backend.connect.retries_exhausted" Count Requests "Requests given up after the last connection attempt."
    BackendDown "backend.down" Count Events "Backends that went into long back-off."
    BackendUp "backend.up" Count Events "Backends that came back from long back-off."
    BackendShardExhausted "backend.shard.exhausted" Count Requests "Requests and connections refused because the backends of their client's shard could take nothing (shard_mode STRICT)."
    BackendShardSpillover "backend.shard.spillover" Count Requests "Requests and connections that left their client's shard, because its backends could take nothing (shard_mode FALLBACK)."
    BackendPoolHit "backend.pool.hit" Count Requests "Requests sent on a connection that was open already."
    BackendPoolMiss "backend.pool.miss" Count Requests "Requests that needed a new connection."
    BackendPoolSize "backend.pool.size" Gauge Connections "Idle connections kept open to backends."
    BackendRetryStaleUpstream "backend.retry.stale_upstream" Count Requests "Requests sent again because a kept connection had died."
    BackendRetryUnanswered "backend.retry.unanswered" Count Requests "Requests sent to another backend because the first one closed a new connection without an answer."
    H1BackendEofBeforeMessageComplete "h1.backend_eof_before_message_complete" Count Requests "Responses cut short by the backend."

    BackendTlsDone "backend.tls.handshakes" Count Connections "TLS handshakes with backends that were completed."
    BackendTlsFailed "backend.tls.failed" Count Connections "Connections to backends that failed in TLS: a handshake, most likely for the certificate, or a record."

    // Traffic.
    BytesIn "bytes_in" Count Bytes "Bytes received from clients." [Cluster Backend]
    BytesOut "bytes_out" Count Bytes "Bytes sent to clients." [Cluster Backend]
    BackBytesIn "back_bytes_in" Count Bytes "Bytes received from backends." [Cluster Backend]
    BackBytesOut "back_bytes_out" Count Bytes "Bytes sent to backends." [Cluster Backend]

    BytesSpliced "bytes_spliced" Count Bytes "Bytes of bodies and tunnels that passed through the kernel alone."

    // Connections that changed their protocol.
    WebsocketActiveRequests "websocket.active_requests" Gauge Connections "Client connections that were upgraded to another protocol."
    ProtocolHttp "protocol.http" Gauge Connections "Client connections of HTTP listeners that are open, but for those that were upgraded."
    ProtocolHttps "protocol.https" Gauge Connections "Client connections of HTTPS listeners that are open, but for those that were upgraded."
    ProtocolWs "protocol.ws" Gauge Connections "Client connections of HTTP listeners that were upgraded to another protocol."
    ProtocolWss "protocol.wss" Gauge Connections "Client connections of HTTPS listeners that were upgraded to another protocol."
    HttpUpgrades "http.upgrades" Count Requests "Requests whose connection changed its protocol."
    TunnelTimeouts "tunnel.timeouts" Count Connections "Upgraded connections closed because nothing moved on them."

    // TCP listeners.
    ProtocolTcp "protocol.tcp" Gauge Connections "Client connections of TCP listeners that are open."
    TcpRequests "tcp.requests" Count Connections "Connections of TCP listeners that were routed to a cluster." [Cluster]
    TcpNoRoute "tcp.failed_frontend_matching" Count Connections "Connections of TCP listeners closed for want of a frontend."
    TcpNoBackend "tcp.failed_backend_matching" Count Connections "Connections of TCP listeners closed for want of a backend."
    TcpIdleTimeouts "tcp.idle_timeouts" Count Connections "Connections of TCP listeners closed because nothing moved on them."
    TcpEvicted "tcp.stalled.evicted" Count Connections "Connections of TCP listeners cut, of which one side took nothing, because their buffers were needed."
    SniPrereadActive "tcp.sni_preread.active" Gauge Connections "Connections whose ClientHello is being read for its server name."
    SniPrereadDuration "tcp.sni_preread.duration" Count Milliseconds "How long reading of ClientHellos took, all together."
    SniPrereadRouted "tcp.sni_preread.routed" Count Connections "Connections routed by what their ClientHello says."
    SniPrereadAlpnUnmatched "tcp.sni_preread.rejected.alpn_unmatched" Count Connections "Connections closed because no frontend of their server name is for their protocols."
    SniPrereadEchOuterAbsent "tcp.sni_preread.rejected.ech_outer_absent" Count Connections "Connections closed because their ClientHello is encrypted and has no server name outside."
    SniPrereadEvicted "tcp.sni_preread.rejected.evicted" Count Connections "Connections closed because the buffer of their half ClientHello was needed."
    SniPrereadFrontClosed "tcp.sni_preread.rejected.front_closed" Count Connections "Connections whose client left before its ClientHello was whole."
    SniPrereadMalformedHandshake "tcp.sni_preread.rejected.malformed_handshake" Count Connections "Connections closed because their first message is no well-formed ClientHello."
    SniPrereadMalformedRecord "tcp.sni_preread.rejected.malformed_record" Count Connections "Connections closed because of a record that none may be like."
    SniPrereadNoSni "tcp.sni_preread.rejected.no_sni" Count Connections "Connections closed because their ClientHello has no server name."
    SniPrereadNotTls "tcp.sni_preread.rejected.not_tls" Count Connections "Connections closed because they do not begin as TLS does."
    SniPrereadSniUnmatched "tcp.sni_preread.rejected.sni_unmatched" Count Connections "Connections closed because no frontend is for their server name."
    SniPrereadTimeout "tcp.sni_preread.rejected.timeout" Count Connections "Connections closed because their ClientHello was not whole in time."
    SniPrereadTooLarge "tcp.sni_preread.rejected.too_large" Count Connections "Connections closed because their ClientHello is longer than it may be."

    // Health of backends.
    HealthCheckSuccess "health_check.success" Count Events "Probes that succeeded."
    HealthCheckFailure "health_check.failure" Count Events "Probes that failed."
    HealthCheckUp "health_check.up" Count Events "Backends that probes found healthy again."
    HealthCheckDown "health_check.down" Count Events "Backends that probes found unhealthy."
    HealthCheckHealthyBackends "health_check.healthy_backends" Gauge Items "Backends that this worker probes and that are healthy."
    HealthCheckInFlight "health_check.in_flight" Gauge Items "Probes under way."
    HealthCheckDelayed "health_check.delayed" Count Events "Times probes that were due had to wait for others to end."
    HealthCheckMissingSecret "health_check.missing_secret" Count Events "Probes not sent because a value of a secret header is missing."
    BackendsFailOpen "backends.fail_open" Count Requests "Requests for which the health of backends was left out of account."
    BackendRetryBudgetExhausted "backend.retry.budget_exhausted" Count Requests "Requests given up because further attempts were beyond the cluster's budget."

    // Times.
    RequestTime "request_time" Time Milliseconds "From the first byte of a request that was routed to a cluster to the last of its answer." [Cluster]
    ServiceTime "service_time" Time Milliseconds "The part of request_time in which no backend was waited for." [Cluster]
    BackendConnectionTime "backend_connection_time" Time Milliseconds "From the begin of a connect to a backend to the connection." [Cluster Backend]
    BackendHeaderTime "backend_header_time" Time Milliseconds "From the first byte sent to a backend of a request to the head of its answer." [Backend]
    BackendResponseTime "backend_response_time" Time Milliseconds "From the first byte sent to a backend of a request to the end of its answer." [Cluster Backend]

    // Of clusters and backends.
    ConnectionsPerBackend "connections_per_backend" Gauge Connections "Connections to backends that sessions use." [Backend]
    BackendAvailable "backend.available" Gauge Items "Backends that a request may go to now: of a backend, 1 or 0." [Backend]
    ClusterAvailableBackends "cluster.available_backends" Gauge Items "Backends of clusters that a request may go to now." [Cluster]
    ClusterTotalBackends "cluster.total_backends" Gauge Items "Backends of clusters." [Cluster]
    MetricSeries "metrics.series" Gauge Items "Clusters and backends that numbers of their own are kept of."
    MetricSeriesRefused "metrics.series_refused" Gauge Items "Clusters and backends that have traffic and no numbers of their own, for want of room (max_series)."

    // The worker itself.
    SplicePipes "splice.pipes" Gauge Items "Pipes in use for splicing."
    HalfHeadsEvicted "http.half_heads.evicted" Count Requests "Request heads, and bytes behind them of no use yet, given up because their buffers were needed."
    StalledEvicted "http.stalled.evicted" Count Requests "Answers cut, of which their clients took nothing, because their buffers were needed."
    ClientsTooSlow "client.too_slow" Count Requests "Requests ended because their client sent or took less than the least rate."
    BufferInUse "buffer.in_use" Gauge Buffers "Buffers that hold bytes."
    BufferWaits "buffer.waits" Count Events "Times a session stopped reading because no buffer was left."
    BufferUsagePercent "buffer.usage_percent" Gauge Items "Buffers that hold bytes, of a hundred that there may be: of the worker with the most."
    BufferCapacity "buffer.capacity" Gauge Buffers "The most buffers there may be."
    ServerLive "server.live" Gauge Items "Workers that accept connections."
    EventLoopTime "event_loop_time" Time Milliseconds "What a turn of a worker's loop took: all that may make others wait."
    EpollTime "epoll_time" Time Milliseconds "How long a worker waited for something to do, each time."
    Panic "panic" Count Events "Sessions ended by an error of ours."
}

impl Metric {
    /// Its place in a table of values.
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Whether it is kept of the proxy as a whole, and not of clusters or backends alone.
    pub const fn is_of_proxy(self) -> bool {
        !matches!(
            self,
            Self::ConnectionsPerBackend
                | Self::BackendAvailable
                | Self::ClusterAvailableBackends
                | Self::ClusterTotalBackends
        )
    }

    /// Whether it is kept of these, too.
    pub const fn is_of(self, scope: Scope) -> bool {
        let scopes = self.scopes();
        let mut index = 0;
        while index < scopes.len() {
            if scopes[index] as u8 == scope as u8 {
                return true;
            }
            index += 1;
        }
        false
    }

    /// The series of a status' class.
    pub fn of_status_class(status: u16) -> Self {
        match status {
            100..=199 => Self::HttpStatus1xx,
            200..=299 => Self::HttpStatus2xx,
            300..=399 => Self::HttpStatus3xx,
            400..=499 => Self::HttpStatus4xx,
            500..=599 => Self::HttpStatus5xx,
            _ => Self::HttpStatusOther,
        }
    }

    /// The series of one status, if it has its own.
    pub(super) fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            200 => Self::HttpStatus200,
            201 => Self::HttpStatus201,
            204 => Self::HttpStatus204,
            301 => Self::HttpStatus301,
            302 => Self::HttpStatus302,
            304 => Self::HttpStatus304,
            400 => Self::HttpStatus400,
            401 => Self::HttpStatus401,
            403 => Self::HttpStatus403,
            404 => Self::HttpStatus404,
            408 => Self::HttpStatus408,
            413 => Self::HttpStatus413,
            429 => Self::HttpStatus429,
            500 => Self::HttpStatus500,
            502 => Self::HttpStatus502,
            503 => Self::HttpStatus503,
            504 => Self::HttpStatus504,
            507 => Self::HttpStatus507,
            _ => return None,
        })
    }

    /// The series that counts answers of our own with this status, if it has one.
    pub fn of_own_answer(status: u16) -> Option<Self> {
        Some(match status {
            301 => Self::Http301Redirection,
            302 => Self::Http302Redirection,
            308 => Self::Http308Redirection,
            400 => Self::Http400Errors,
            401 => Self::Http401Errors,
            404 => Self::Http404Errors,
            408 => Self::Http408Errors,
            413 => Self::Http413Errors,
            414 => Self::Http414Errors,
            421 => Self::Http421Errors,
            431 => Self::Http431Errors,
            501 => Self::Http501Errors,
            502 => Self::Http502Errors,
            503 => Self::Http503Errors,
            504 => Self::Http504Errors,
            505 => Self::Http505Errors,
            507 => Self::Http507Errors,
            _ => return None,
        })
    }
}
