"""Pure: a tariff file as a frozen, checked model: fields, model, day types, plans of a day, coherence, reading."""
