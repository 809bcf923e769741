//! Options of the sections that Cinder shares with the libraries it uses.
//!
//! Facts of Cinder 29 and the libraries it reads its configuration with: names, kinds, defaults. One option a row, sorted by
//! name. A default that depends on the machine (host name, address) is absent: the binary supplies it with
//! [`Config::set_default`](crate::config::Config::set_default).

use crate::config::known::Kind::*;
use crate::config::known::{INT, Known, NAT, POS, bare, int, row, secret};

/// `[barbican]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const BARBICAN: &[Known] = &[
    row("auth_endpoint", Str, "http://localhost/identity/v3"),
    bare("barbican_api_version", Str),
    bare("barbican_endpoint", Str),
    row("barbican_endpoint_type", Str, "public"),
    bare("barbican_region_name", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    row("collect_timing", Bool, "false"),
    row("insecure", Bool, "false"),
    bare("keyfile", Str),
    row("number_of_retries", INT, "60"),
    row("retry_delay", INT, "1"),
    row("send_service_user_token", Bool, "false"),
    row("split_loggers", Bool, "false"),
    bare("timeout", Float),
    bare("tls_ciphers", Str),
    bare("tls_min_version", Str),
    row("verify_ssl", Bool, "true"),
    bare("verify_ssl_path", Str),
];

/// `[barbican_service_user]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const BARBICAN_SERVICE_USER: &[Known] = &[
    bare("auth_section", Str),
    bare("auth_type", Str),
    bare("auth_url", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    row("collect_timing", Bool, "false"),
    bare("default_domain_id", Str),
    bare("default_domain_name", Str),
    bare("domain_id", Str),
    bare("domain_name", Str),
    row("insecure", Bool, "false"),
    bare("keyfile", Str),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    bare("region_name", Str),
    row("split_loggers", Bool, "false"),
    bare("system_scope", Str),
    bare("tenant_id", Str),
    bare("tenant_name", Str),
    bare("timeout", Float),
    bare("tls_ciphers", Str),
    bare("tls_min_version", Str),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
];

/// `[coordination]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const COORDINATION: &[Known] = &[
    secret(row("backend_url", Str, "file://$state_path")),
];

/// `[cors]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const CORS: &[Known] = &[
    row("allow_credentials", Bool, "true"),
    bare("allow_headers", List),
    row("allow_methods", List, "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,PATCH"),
    bare("allowed_origin", List),
    bare("expose_headers", List),
    row("max_age", INT, "3600"),
];

/// `[database]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const DATABASE: &[Known] = &[
    secret(bare("asyncio_connection", Str)),
    secret(bare("asyncio_slave_connection", Str)),
    row("backend", Str, "sqlalchemy"),
    secret(bare("connection", Str)),
    row("connection_debug", int(0, 100), "0"),
    row("connection_parameters", Str, ""),
    row("connection_recycle_time", INT, "3600"),
    row("connection_trace", Bool, "false"),
    row("db_inc_retry_interval", Bool, "true"),
    row("db_max_retries", INT, "20"),
    row("db_max_retry_interval", INT, "10"),
    row("db_retry_interval", INT, "1"),
    row("max_overflow", INT, "50"),
    row("max_pool_size", INT, "5"),
    row("max_retries", INT, "10"),
    row("mysql_sql_mode", Str, "TRADITIONAL"),
    bare("mysql_wsrep_sync_wait", INT),
    bare("pool_timeout", INT),
    row("retry_interval", INT, "10"),
    secret(bare("slave_connection", Str)),
    row("sqlite_synchronous", Bool, "true"),
    row("synchronous_reader", Bool, "true"),
    row("use_db_reconnect", Bool, "false"),
];

/// `[fc-zone-manager]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const FC_ZONE_MANAGER: &[Known] = &[
    row("brcd_sb_connector", Str, "HTTP"),
    row("cisco_sb_connector", Str, "cinder.zonemanager.drivers.cisco.cisco_fc_zone_client_cli.CiscoFCZoneClientCLI"),
    row("enable_unsupported_driver", Bool, "false"),
    bare("fc_fabric_names", Str),
    row("fc_san_lookup_service", Str, "cinder.zonemanager.drivers.brocade.brcd_fc_san_lookup_service.BrcdFCSanLookupService"),
    row("zone_driver", Str, "cinder.zonemanager.drivers.brocade.brcd_fc_zone_driver.BrcdFCZoneDriver"),
    row("zoning_policy", Str, "initiator-target"),
];

/// `[glance]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const GLANCE: &[Known] = &[
    bare("auth_section", Str),
    bare("auth_type", Str),
    bare("auth_url", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    row("collect_timing", Bool, "false"),
    bare("default_domain_id", Str),
    bare("default_domain_name", Str),
    bare("domain_id", Str),
    bare("domain_name", Str),
    row("insecure", Bool, "false"),
    bare("keyfile", Str),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    bare("region_name", Str),
    row("split_loggers", Bool, "false"),
    bare("system_scope", Str),
    bare("tenant_id", Str),
    bare("tenant_name", Str),
    bare("timeout", Float),
    bare("tls_ciphers", Str),
    bare("tls_min_version", Str),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
];

/// `[healthcheck]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const HEALTHCHECK: &[Known] = &[
    bare("allowed_source_ranges", List),
    bare("backends", List),
    row("detailed", Bool, "false"),
    bare("disable_by_file_path", Str),
    bare("disable_by_file_paths", List),
    bare("enable_by_file_paths", List),
    row("ignore_proxied_requests", Bool, "false"),
];

/// `[key_manager]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const KEY_MANAGER: &[Known] = &[
    bare("auth_type", Str),
    bare("auth_url", Str),
    row("backend", Str, "barbican"),
    bare("domain_id", Str),
    bare("domain_name", Str),
    secret(bare("fixed_key", Str)),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    row("reauthenticate", Bool, "true"),
    secret(bare("token", Str)),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
];

/// `[keystone_authtoken]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const KEYSTONE_AUTHTOKEN: &[Known] = &[
    bare("auth_section", Str),
    bare("auth_type", Str),
    bare("auth_url", Str),
    bare("auth_version", Str),
    bare("cache", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    bare("default_domain_id", Str),
    bare("default_domain_name", Str),
    row("delay_auth_decision", Bool, "false"),
    bare("domain_id", Str),
    bare("domain_name", Str),
    row("enforce_token_bind", Str, "permissive"),
    bare("http_connect_timeout", INT),
    row("http_request_max_retries", INT, "3"),
    row("include_service_catalog", Bool, "true"),
    row("insecure", Bool, "false"),
    row("interface", Str, "internal"),
    bare("keyfile", Str),
    secret(bare("memcache_password", Str)),
    row("memcache_pool_conn_get_timeout", INT, "10"),
    row("memcache_pool_dead_retry", INT, "300"),
    row("memcache_pool_maxsize", INT, "10"),
    row("memcache_pool_socket_timeout", INT, "3"),
    row("memcache_pool_unused_timeout", INT, "60"),
    row("memcache_sasl_enabled", Bool, "false"),
    secret(bare("memcache_secret_key", Str)),
    row("memcache_security_strategy", Str, "None"),
    bare("memcache_tls_allowed_ciphers", Str),
    bare("memcache_tls_cafile", Str),
    bare("memcache_tls_certfile", Str),
    row("memcache_tls_enabled", Bool, "false"),
    bare("memcache_tls_keyfile", Str),
    row("memcache_use_advanced_pool", Bool, "true"),
    bare("memcache_username", Str),
    bare("memcached_servers", List),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    bare("region_name", Str),
    row("service_token_roles", List, "service"),
    row("service_token_roles_required", Bool, "true"),
    bare("service_type", Str),
    bare("system_scope", Str),
    bare("tenant_id", Str),
    bare("tenant_name", Str),
    bare("timeout", Str),
    row("token_cache_time", INT, "300"),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
    bare("www_authenticate_uri", Str),
];

/// `[nova]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const NOVA: &[Known] = &[
    bare("auth_section", Str),
    bare("auth_type", Str),
    bare("auth_url", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    row("collect_timing", Bool, "false"),
    bare("default_domain_id", Str),
    bare("default_domain_name", Str),
    bare("domain_id", Str),
    bare("domain_name", Str),
    row("insecure", Bool, "false"),
    row("interface", Str, "public"),
    bare("keyfile", Str),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    bare("region_name", Str),
    row("split_loggers", Bool, "false"),
    bare("system_scope", Str),
    bare("tenant_id", Str),
    bare("tenant_name", Str),
    bare("timeout", Float),
    bare("tls_ciphers", Str),
    bare("tls_min_version", Str),
    bare("token_auth_url", Str),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
];

/// `[os_brick]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OS_BRICK: &[Known] = &[
    bare("lock_path", Str),
    row("wait_mpath_device_attempts", POS, "4"),
    row("wait_mpath_device_interval", POS, "1"),
];

/// `[oslo_concurrency]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_CONCURRENCY: &[Known] = &[
    row("disable_process_locking", Bool, "false"),
    bare("lock_path", Str),
];

/// `[oslo_messaging_kafka]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_MESSAGING_KAFKA: &[Known] = &[
    row("compression_codec", Str, "none"),
    row("consumer_group", Str, "oslo_messaging_consumer"),
    row("enable_auto_commit", Bool, "false"),
    row("kafka_consumer_timeout", Float, "1.0"),
    row("kafka_max_fetch_bytes", INT, "1048576"),
    row("max_poll_records", INT, "500"),
    row("producer_batch_size", INT, "16384"),
    row("producer_batch_timeout", Float, "0.0"),
    row("sasl_mechanism", Str, "PLAIN"),
    row("security_protocol", Str, "PLAINTEXT"),
    row("ssl_cafile", Str, ""),
    row("ssl_client_cert_file", Str, ""),
    row("ssl_client_key_file", Str, ""),
    row("ssl_client_key_password", Str, ""),
];

/// `[oslo_messaging_notifications]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_MESSAGING_NOTIFICATIONS: &[Known] = &[
    bare("driver", Multi),
    row("retry", INT, "-1"),
    row("topics", List, "notifications"),
    secret(bare("transport_url", Str)),
];

/// `[oslo_messaging_rabbit]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_MESSAGING_RABBIT: &[Known] = &[
    row("amqp_auto_delete", Bool, "false"),
    row("amqp_durable_queues", Bool, "false"),
    row("conn_pool_min_size", INT, "2"),
    row("conn_pool_ttl", INT, "1200"),
    row("direct_mandatory_flag", Bool, "true"),
    row("enable_cancel_on_failover", Bool, "false"),
    row("heartbeat_rate", INT, "3"),
    row("heartbeat_timeout_threshold", INT, "60"),
    bare("hostname", Str),
    bare("kombu_compression", Str),
    row("kombu_failover_strategy", Str, "round-robin"),
    row("kombu_missing_consumer_retry_timeout", INT, "60"),
    row("kombu_reconnect_delay", Float, "1.0"),
    row("kombu_reconnect_splay", Float, "0.0"),
    bare("processname", Str),
    row("rabbit_ha_queues", Bool, "false"),
    row("rabbit_interval_max", POS, "30"),
    row("rabbit_login_method", Str, "AMQPLAIN"),
    row("rabbit_qos_prefetch_count", INT, "0"),
    row("rabbit_quorum_delivery_limit", INT, "0"),
    row("rabbit_quorum_max_memory_bytes", INT, "0"),
    row("rabbit_quorum_max_memory_length", INT, "0"),
    row("rabbit_quorum_queue", Bool, "false"),
    row("rabbit_retry_backoff", NAT, "2"),
    row("rabbit_retry_interval", POS, "1"),
    row("rabbit_stream_fanout", Bool, "false"),
    row("rabbit_transient_queues_ttl", NAT, "1800"),
    row("rabbit_transient_quorum_queue", Bool, "false"),
    row("rpc_conn_pool_size", POS, "30"),
    row("ssl", Bool, "false"),
    row("ssl_ca_file", Str, ""),
    row("ssl_cert_file", Str, ""),
    row("ssl_enforce_fips_mode", Bool, "false"),
    row("ssl_enforce_hostname_verification", Bool, "true"),
    row("ssl_key_file", Str, ""),
    row("ssl_version", Str, ""),
    row("use_queue_manager", Bool, "false"),
];

/// `[oslo_middleware]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_MIDDLEWARE: &[Known] = &[
    row("enable_proxy_headers_parsing", Bool, "false"),
    row("http_basic_auth_user_file", Str, "/etc/htpasswd"),
    row("max_request_body_size", INT, "114688"),
];

/// `[oslo_middleware_tracing]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_MIDDLEWARE_TRACING: &[Known] = &[
    row("enabled", Bool, "false"),
    row("insecure", Bool, "false"),
    row("otlp_endpoint", Str, "http://localhost:4318"),
    row("otlp_protocol", Str, "http/protobuf"),
    row("sampling_rate", Float, "1.0"),
    bare("service_name", Str),
];

/// `[oslo_policy]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_POLICY: &[Known] = &[
    row("enforce_new_defaults", Bool, "true"),
    row("policy_default_rule", Str, "default"),
    row("policy_dirs", Multi, "policy.d"),
    row("policy_file", Str, "policy.yaml"),
    row("remote_content_type", Str, "application/x-www-form-urlencoded"),
    bare("remote_ssl_ca_crt_file", Str),
    bare("remote_ssl_client_crt_file", Str),
    bare("remote_ssl_client_key_file", Str),
    row("remote_ssl_verify_server_crt", Bool, "false"),
    row("remote_timeout", Float, "60"),
];

/// `[oslo_reports]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_REPORTS: &[Known] = &[
    bare("file_event_handler", Str),
    row("file_event_handler_interval", INT, "1"),
    bare("log_dir", Str),
];

/// `[oslo_versionedobjects]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const OSLO_VERSIONEDOBJECTS: &[Known] = &[
    row("fatal_exception_format_errors", Bool, "false"),
];

/// `[profiler]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const PROFILER: &[Known] = &[
    row("connection_string", Str, "messaging://"),
    row("enabled", Bool, "false"),
    row("es_doc_type", Str, "notification"),
    row("es_scroll_size", INT, "10000"),
    row("es_scroll_time", Str, "2m"),
    row("filter_error_trace", Bool, "false"),
    secret(bare("hmac_keys", Str)),
    row("sentinel_service_name", Str, "mymaster"),
    row("socket_timeout", Float, "0.1"),
    row("trace_requests", Bool, "false"),
    row("trace_sqlalchemy", Bool, "false"),
];

/// `[profiler_jaeger]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const PROFILER_JAEGER: &[Known] = &[
    bare("process_tags", Dict),
    bare("service_name_prefix", Str),
];

/// `[profiler_otlp]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const PROFILER_OTLP: &[Known] = &[
    bare("service_name_prefix", Str),
];

/// `[service_user]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const SERVICE_USER: &[Known] = &[
    bare("auth_section", Str),
    bare("auth_type", Str),
    bare("auth_url", Str),
    bare("cafile", Str),
    bare("certfile", Str),
    row("collect_timing", Bool, "false"),
    bare("default_domain_id", Str),
    bare("default_domain_name", Str),
    bare("domain_id", Str),
    bare("domain_name", Str),
    row("insecure", Bool, "false"),
    bare("keyfile", Str),
    secret(bare("password", Str)),
    bare("project_domain_id", Str),
    bare("project_domain_name", Str),
    bare("project_id", Str),
    bare("project_name", Str),
    bare("region_name", Str),
    row("send_service_user_token", Bool, "false"),
    row("split_loggers", Bool, "false"),
    bare("system_scope", Str),
    bare("tenant_id", Str),
    bare("tenant_name", Str),
    bare("timeout", Float),
    bare("tls_ciphers", Str),
    bare("tls_min_version", Str),
    bare("trust_id", Str),
    bare("user_domain_id", Str),
    bare("user_domain_name", Str),
    bare("user_id", Str),
    bare("username", Str),
];

/// `[ssl]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const SSL: &[Known] = &[
    bare("ca_file", Str),
    bare("cert_file", Str),
    bare("ciphers", Str),
    bare("key_file", Str),
    bare("version", Str),
];

/// `[vault]`.
#[rustfmt::skip] // a table reads best as a table
pub(super) const VAULT: &[Known] = &[
    secret(bare("approle_role_id", Str)),
    secret(bare("approle_secret_id", Str)),
    row("auth_method", Str, "approle"),
    bare("auth_path", Str),
    row("kv_mountpoint", Str, "secret"),
    bare("kv_path", Str),
    row("kv_version", INT, "2"),
    bare("namespace", Str),
    secret(bare("root_token_id", Str)),
    bare("ssl_ca_crt_file", Str),
    row("timeout", Float, "60"),
    bare("token_file", Str),
    bare("token_role", Str),
    row("use_ssl", Bool, "false"),
    row("vault_url", Str, "http://127.0.0.1:8200"),
];

/// Every shared section by its name, sorted.
#[rustfmt::skip] // a table reads best as a table
pub(super) const SECTIONS: &[(&str, &[Known])] = &[
    ("barbican", BARBICAN),
    ("barbican_service_user", BARBICAN_SERVICE_USER),
    ("coordination", COORDINATION),
    ("cors", CORS),
    ("database", DATABASE),
    ("fc-zone-manager", FC_ZONE_MANAGER),
    ("glance", GLANCE),
    ("healthcheck", HEALTHCHECK),
    ("key_manager", KEY_MANAGER),
    ("keystone_authtoken", KEYSTONE_AUTHTOKEN),
    ("nova", NOVA),
    ("os_brick", OS_BRICK),
    ("oslo_concurrency", OSLO_CONCURRENCY),
    ("oslo_messaging_kafka", OSLO_MESSAGING_KAFKA),
    ("oslo_messaging_notifications", OSLO_MESSAGING_NOTIFICATIONS),
    ("oslo_messaging_rabbit", OSLO_MESSAGING_RABBIT),
    ("oslo_middleware", OSLO_MIDDLEWARE),
    ("oslo_middleware_tracing", OSLO_MIDDLEWARE_TRACING),
    ("oslo_policy", OSLO_POLICY),
    ("oslo_reports", OSLO_REPORTS),
    ("oslo_versionedobjects", OSLO_VERSIONEDOBJECTS),
    ("profiler", PROFILER),
    ("profiler_jaeger", PROFILER_JAEGER),
    ("profiler_otlp", PROFILER_OTLP),
    ("service_user", SERVICE_USER),
    ("ssl", SSL),
    ("vault", VAULT),
];
