//! As much of Rust's lexical structure as the rules need: comments and literals told from code.

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A name or keyword.
    Word(String),
    /// One character of punctuation.
    Mark(char),
    /// A string literal's content, of any kind of string.
    Text(String),
    /// A number, as written.
    Number(String),
    /// A comment, with its slashes.
    Comment(String),
    /// A character or byte literal, or a lifetime: of no interest.
    Other,
}

/// A token and the line on which it starts.
#[derive(Debug, Clone)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

impl Token {
    pub fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(own) if own == word)
    }
}

/// Splits source text into tokens. Text that is not Rust yields some tokens, never a panic.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while lexer.at < lexer.chars.len() {
        let line = lexer.line;
        if let Some(kind) = lexer.next() {
            tokens.push(Token { kind, line });
        }
    }
    tokens
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn bump(&mut self) -> Option<char> {
        let char = self.peek(0)?;
        self.at += 1;
        if char == '\n' {
            self.line += 1;
        }
        Some(char)
    }

    /// Takes characters while they please.
    fn take(&mut self, mut pleases: impl FnMut(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(char) = self.peek(0).filter(|char| pleases(*char)) {
            taken.push(char);
            self.bump();
        }
        taken
    }

    fn next(&mut self) -> Option<Kind> {
        let first = self.peek(0)?;
        match first {
            char if char.is_whitespace() => {
                self.bump();
                None
            }
            '/' if self.peek(1) == Some('/') => Some(Kind::Comment(self.take(|char| char != '\n'))),
            '/' if self.peek(1) == Some('*') => Some(self.block_comment()),
            '"' => Some(self.string()),
            '\'' => Some(self.quote()),
            char if char.is_ascii_digit() => Some(self.number()),
            char if char == '_' || char.is_alphabetic() => Some(self.word()),
            char => {
                self.bump();
                Some(Kind::Mark(char))
            }
        }
    }

    /// A word, or the literal that a prefix (`r`, `b`, `br`, `c`) announces.
    fn word(&mut self) -> Kind {
        let word = self.take(|char| char == '_' || char.is_alphanumeric());
        match (word.as_str(), self.peek(0)) {
            ("r" | "br" | "cr", Some('"' | '#')) => self.raw_string(),
            ("b" | "c", Some('"')) => self.string(),
            ("b", Some('\'')) => self.quote(),
            _ => Kind::Word(word),
        }
    }

    fn number(&mut self) -> Kind {
        let mut text = self.take(|char| char == '_' || char.is_alphanumeric());
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit()) {
            self.bump();
            text.push('.');
            text.push_str(&self.take(|char| char == '_' || char.is_alphanumeric()));
        }
        Kind::Number(text)
    }

    fn block_comment(&mut self) -> Kind {
        let mut text = String::new();
        let mut depth = 0;
        while let Some(char) = self.bump() {
            text.push(char);
            match (char, self.peek(0)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => continue,
            }
            text.extend(self.bump());
            if depth == 0 {
                break;
            }
        }
        Kind::Comment(text)
    }

    fn string(&mut self) -> Kind {
        let mut text = String::new();
        self.bump();
        while let Some(char) = self.bump() {
            match char {
                '"' => break,
                '\\' => {
                    text.push(char);
                    text.extend(self.bump());
                }
                _ => text.push(char),
            }
        }
        Kind::Text(text)
    }

    /// After the prefix: hashes, a quote, text, a quote, as many hashes. `r#word` is a word.
    fn raw_string(&mut self) -> Kind {
        let hashes = self.take(|char| char == '#').len();
        if self.peek(0) != Some('"') {
            return Kind::Word(self.take(|char| char == '_' || char.is_alphanumeric()));
        }
        self.bump();
        let mut text = String::new();
        while let Some(char) = self.bump() {
            if char == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                break;
            }
            text.push(char);
        }
        Kind::Text(text)
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) -> Kind {
        self.bump();
        if self.peek(0) == Some('\\') {
            self.bump();
            self.bump();
            self.take(|char| char != '\'' && char != '\n');
            self.bump();
        } else if self.peek(1) == Some('\'') {
            self.bump();
            self.bump();
        } else {
            self.take(|char| char == '_' || char.is_alphanumeric());
        }
        Kind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let word = |token: Token| match token.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        };
        tokens(text).into_iter().filter_map(word).collect()
    }

    #[test]
    fn code_inside_literals_and_comments_is_not_code() {
        let text = r####"let a = "fn x() {"; // fn y()
            let b = r#"fn "z"#; /* fn /* nested */ */ let c = 'f'; let d: &'static str = b"fn"; let e = '\'';"####;
        assert!(!words(text).contains(&"fn".to_owned()), "{:?}", words(text));
        assert_eq!(words(text).iter().filter(|word| *word == "let").count(), 5);
    }

    #[test]
    fn lines_count_through_multi_line_literals() {
        let tokens = tokens("let a = \"x\ny\";\nlast");
        assert_eq!(tokens.last().unwrap().line, 3);
    }

    #[test]
    fn unclosed_literals_end_with_the_text() {
        for text in ["\"abc", "r#\"abc", "/* abc", "'", "b'", "r#"] {
            tokens(text);
        }
    }
}
