"""Who answers: an ask in, events out."""
