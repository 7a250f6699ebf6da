"""Extensions that build the book: formulas, the reference, the gallery, and the picture of its front page."""
