//! Reading `cinder.conf`: oslo.config's INI dialect.
